"""The fixtures: what they give a test, and when they complain."""

from __future__ import annotations

import pytest


def test_fakes_are_equal_in_every_test_and_draw_nothing(suite):
    """``fake_variables`` gives the same values in each test, and leaves the generator alone."""
    suite.write(
        """
        values = []

        @pytest.mark.parametrize("seed", [1, 2])
        def test_fakes(fake_variables, seed):
            torch.manual_seed(seed)
            before = torch.get_rng_state()
            values.append(nn.Linear(2, 3).weight)
            assert torch.equal(before, torch.get_rng_state())
            assert fake_variables.made == 2

        def test_they_are_equal():
            assert torch.equal(*values)
            assert not torch.equal(values[0], nn.Linear(2, 3).weight)
        """
    ).run().assert_outcomes(passed=3)


def test_fakes_nobody_made_are_an_error(suite):
    """A test that asks for fakes and makes no variable fails, and is told why and what to do."""
    result = suite.write("def test_nothing(fake_variables):\n    pass").run()
    result.assert_outcomes(passed=1, errors=1)
    result.stdout.fnmatch_lines(
        [
            "*ERROR at teardown of test_nothing*",
            "test_suite.py::test_nothing asked for fake_variables, and no variable was made in it.",
            "A model that a module or another fixture made before is real, and as slow as that.",
            "Make the model in the test, or in a fixture that asks for fake_variables too.",
            "If it is on purpose: @pytest.mark.torchcreator(allow_unused_fakes=True).",
        ],
        consecutive=True,
    )


@pytest.mark.parametrize(
    ("body", "outcomes"),
    [("assert False", {"failed": 1}), ("pytest.skip('not now')", {"skipped": 1})],
    ids=["failed", "skipped"],
)
def test_a_test_that_did_not_pass_is_not_blamed_twice(suite, body, outcomes):
    """Fakes that were not used are no error where the test failed or was skipped before."""
    result = suite.write(f"def test_nothing(fake_variables):\n    {body}").run()
    result.assert_outcomes(**outcomes)


def test_unused_fakes_may_be_allowed(suite):
    """A marker of the test or of its class, or the configuration, allows fakes without use."""
    source = """
        @pytest.mark.torchcreator(allow_unused_fakes=True)
        class TestAllowed:
            def test_by_the_class(self, fake_variables):
                pass

            @pytest.mark.torchcreator(allow_unused_fakes=False)
            def test_by_nobody(self, fake_variables):
                pass
        """
    suite.write(source).run().assert_outcomes(passed=2, errors=1)
    result = suite.write(source, ini="torchcreator_strict = false").run()
    result.assert_outcomes(passed=2, errors=1)  # a marker says more than the configuration


def test_recorded_variables_are_the_test_s_own(suite):
    """``recorded_variables`` is a new ledger in each test, with full names in order."""
    suite.write(
        """
        @pytest.fixture
        def model(recorded_variables):
            return nn.Sequential(nn.Linear(2, 3), nn.Linear(3, 1, bias=False))

        @pytest.mark.parametrize("again", [0, 1])
        def test_recorded(model, recorded_variables, again):
            assert recorded_variables.names == ["0.weight", "0.bias", "1.weight"]
            recorded_variables.assert_created("*.weight", count=2)

        def test_missing(recorded_variables):
            with pytest.raises(AssertionError, match="Expected at least one variable"):
                recorded_variables.assert_created("*")
        """
    ).run().assert_outcomes(passed=3)


def test_scopes_stay_open_until_the_test_ends(suite):
    """``creator_scopes`` opens scopes for the rest of the test, and returns their creators."""
    suite.write(
        """
        def test_open(creator_scopes):
            assert not is_frozen()
            assert creator_scopes(frozen) is frozen
            assert is_frozen()

        def test_closed():
            assert not is_frozen()

        def test_without_modules(creator_scopes):
            creator_scopes(frozen, modules=False)
            assert not is_frozen()
            assert not tc.variable(1.0).requires_grad
        """
    ).run().assert_outcomes(passed=3)


def test_fixtures_nest_in_the_order_of_the_arguments(suite):
    """The fixture that is asked for last is the innermost scope."""
    suite.write(
        """
        def test_outside(fake_variables, recorded_variables):
            nn.Linear(1, 1)
            assert recorded_variables[0].creators[0] == "RecordingCreator()"

        def test_inside(recorded_variables, fake_variables):
            nn.Linear(1, 1)
            assert len(recorded_variables) == fake_variables.made == 2
        """
    ).run().assert_outcomes(passed=2)


def test_a_class_may_use_the_fixtures(suite):
    """``usefixtures`` on a class, and on a module, serves all of its tests."""
    suite.write(
        """
        pytestmark = pytest.mark.usefixtures("recorded_variables")

        @pytest.mark.usefixtures("fake_variables")
        class TestFakes:
            def test_one(self):
                assert torch.equal(nn.Linear(2, 2).weight, nn.Linear(2, 2).weight)

        def test_real():
            assert not torch.equal(nn.Linear(2, 2).weight, nn.Linear(2, 2).weight)
        """
    ).run().assert_outcomes(passed=2)
