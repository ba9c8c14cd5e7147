"""A test finds the hooks that were there, and names of its own."""

from __future__ import annotations

import pytest


@pytest.mark.parametrize(
    ("removal", "purpose"),
    [
        ("nn.modules.module._global_parameter_registration_hooks", "creators of stock modules"),
        ("optimizer._global_optimizer_post_hooks", "constraints"),
    ],
    ids=["registration", "optimizer"],
)
def test_a_lost_hook_fails_its_test(suite, removal, purpose):
    """A test that removes a hook of ours fails, and the next one finds it registered again."""
    result = suite.write(
        f"""
        from torch.optim import optimizer

        def bounded(next_creator, **kwargs):
            return next_creator(**{{**kwargs, "constraint": "non_neg"}})

        def trained():
            with tc.creator_scope(bounded):
                layer = nn.Linear(2, 2)
            layer(torch.ones(1, 2)).sum().backward()
            torch.optim.SGD(layer.parameters(), lr=10.0).step()
            return min(p.min().item() for p in layer.parameters())

        def test_before():
            assert trained() == 0

        def test_removes():
            {removal}.clear()
            assert trained() < 0

        def test_after():
            assert trained() == 0

        @pytest.mark.torchcreator(allow_changed_hooks=True)
        def test_allowed():
            {removal}.clear()
        """
    ).run()
    result.assert_outcomes(passed=4, errors=1)
    result.stdout.fnmatch_lines(
        [
            f"test_suite.py::test_removes removed torchcreator's hook in torch for {purpose}*.",
            "Every later test would have done without; it is registered again.",
            "Remove your own hooks by their handles, and leave the others where they are.",
            "If it is on purpose: @pytest.mark.torchcreator(allow_changed_hooks=True).",
        ],
        consecutive=True,
    )


def test_names_begin_anew_in_each_test(suite):
    """A name that one test gave a variable is free again in the next."""
    suite.write(
        """
        @pytest.mark.parametrize("again", [0, 1])
        def test_names(again):
            names = [tc.spec_of(tc.variable(1.0, name="w")).name for _ in range(3)]
            assert names == ["w", "w_1", "w_2"]
        """
    ).run().assert_outcomes(passed=2)


def test_a_run_inside_a_run_gives_way_to_it(suite):
    """A pytest that ran inside a test leaves the watch to the one around it."""
    result = suite.write(
        """
        def test_inside(pytester):
            pytester.makepyfile("import torchcreator as tc\\ndef test(creator_scopes): pass")
            result = pytester.runpytest_inprocess("-p", "torchcreator.pytest_plugin")
            result.assert_outcomes(passed=1)
            tc.creator_scope(frozen).__enter__()
        """
    ).run("-p", "pytester")
    result.assert_outcomes(passed=1, errors=1)
