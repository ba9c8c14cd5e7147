"""What constructors do to the default generator: they seed, save, set and fork it."""

from __future__ import annotations

import torch


def _one_seed_again_and_again(self):
    for number in range(5):
        torch.manual_seed(3)
        self.register_buffer(f"a{number}", torch.rand(number + 1))
        self.register_buffer(f"b{number}", torch.randn(3))


def _the_state_that_was_found(self):
    found = torch.get_rng_state()
    self.register_buffer("a", torch.randn(7))
    torch.set_rng_state(found)
    self.register_buffer("b", torch.randn(1))


def _places_that_look_alike(self):
    state = torch.get_rng_state()
    self.register_buffer("a", torch.randn(3))
    after = torch.get_rng_state()
    torch.set_rng_state(state)
    self.register_buffer("b", torch.randn(50))
    torch.set_rng_state(after)
    self.register_buffer("c", torch.randn(5))
    torch.set_rng_state(state)


def _a_state_from_elsewhere(self):
    for seed, used in ((1, 0), (2, 5)):
        generator = torch.Generator().manual_seed(seed)
        torch.randn(used, generator=generator)
        torch.set_rng_state(generator.get_state())
        self.register_buffer(f"a{seed}", torch.randn(1))
        self.register_buffer(f"b{seed}", torch.randn(20))


def _forks_in_forks(self):
    for number in range(3):
        with torch.random.fork_rng():
            torch.manual_seed(number)
            self.register_buffer(f"a{number}", torch.rand(400))
            with torch.random.fork_rng():
                self.register_buffer(f"b{number}", torch.randn(3))
            self.register_buffer(f"c{number}", torch.randn(3))
        self.register_buffer(f"d{number}", torch.randn(5))


def _a_seed_at_the_end(self):
    self.register_buffer("a", torch.rand(3))
    torch.manual_seed(11)


def _a_state_at_the_end(self):
    state = torch.get_rng_state()
    self.register_buffer("a", torch.rand(300))
    self.register_buffer("b", torch.rand(3))
    torch.set_rng_state(state)


def _real_draws_between(self):
    for number in range(4):
        self.register_buffer(f"a{number}", torch.randn(3))
        self.register_buffer(f"b{number}", torch.tensor([1.0, 2.0, 3.0]).normal_())
        self.register_buffer(f"c{number}", torch.poisson(torch.tensor([1.0, 2.0])))


def _nothing_is_drawn(self):
    self.register_buffer("a", torch.randperm(1))
    self.register_buffer("b", torch.rand(0))
    self.register_buffer("c", torch.randn(1))


def _many_draws(self):
    for number in range(300):
        self.register_buffer(f"a{number}", torch.rand(10))
        if number in (140, 280):
            state = torch.get_rng_state()
        if number in (150, 290):
            torch.set_rng_state(state)


OWN = {
    function.__name__.strip("_").replace("_", " "): function
    for function in (
        *(_one_seed_again_and_again, _the_state_that_was_found, _places_that_look_alike),
        *(_a_state_from_elsewhere, _forks_in_forks, _a_seed_at_the_end, _a_state_at_the_end),
        *(_real_draws_between, _nothing_is_drawn, _many_draws),
    )
}
"""By what they do."""
