"""The marker that opens scopes around tests."""

from __future__ import annotations

import sys

import pytest


def test_markers_nest_from_the_module_to_the_function(suite):
    """Module, class and function nest outside in; so do decorators, and arguments of one."""
    suite.write(
        """
        pytestmark = pytest.mark.creators([noting("module")])

        @pytest.mark.creators([noting("class")])
        class TestNested:
            @pytest.mark.creators([noting("upper")])
            @pytest.mark.creators(noting("first"), noting("second"))
            def test_order(self):
                asked.clear()
                tc.variable(1.0)
                assert asked == ["second", "first", "upper", "class", "module"]

            def test_others_do_not_have_the_function_s(self):
                asked.clear()
                tc.variable(1.0)
                assert asked == ["class", "module"]
        """
    ).run("--strict-markers").assert_outcomes(passed=2)


def test_a_creator_may_be_named(suite):
    """A string names a creator, or a class that is made anew for each test."""
    suite.write(
        """
        seen = set()

        class Counting:
            def __init__(self):
                self.count = 0
                seen.add(self)

            def __call__(self, next_creator, **kwargs):
                self.count += 1
                return next_creator(**kwargs)

        @pytest.mark.creators("test_suite:frozen", "test_suite:Counting")
        @pytest.mark.parametrize("again", [0, 1])
        def test_named(again):
            assert is_frozen()
            assert [creator.count for creator in seen] == [2] * (again + 1)
        """
    ).run().assert_outcomes(passed=2)


def test_a_parameter_set_may_be_marked(suite):
    """``pytest.param(..., marks=...)`` chooses creators for one set of parameters."""
    suite.write(
        """
        @pytest.mark.parametrize(
            "wanted", [False, pytest.param(True, marks=pytest.mark.creators([frozen]))]
        )
        def test_frozen(wanted):
            assert is_frozen() is wanted
        """
    ).run().assert_outcomes(passed=2)


def test_the_test_s_fixtures_are_inside_and_shared_ones_are_not(suite):
    """A fixture of the test is set up and torn down in its scopes; a module's is made outside."""
    suite.write(
        """
        @pytest.fixture(scope="module")
        def shared():
            return is_frozen()

        @pytest.fixture
        def own():
            yield is_frozen()
            assert is_frozen()

        @pytest.mark.creators([frozen])
        def test_first(own, shared):
            assert own
            assert not shared

        @pytest.mark.creators([frozen])
        def test_without_fixtures():
            assert is_frozen()

        def test_unmarked(own, shared):
            assert is_frozen()
        """
    ).run().assert_outcomes(passed=2, failed=1, errors=1)


def test_stock_modules_may_be_left_out(suite):
    """``modules=False`` is passed on to the scope."""
    suite.write(
        """
        @pytest.mark.creators([frozen], modules=False)
        def test_variables_only():
            assert not is_frozen()
            assert not tc.variable(1.0).requires_grad
        """
    ).run().assert_outcomes(passed=1)


@pytest.mark.parametrize(
    ("marker", "complaint"),
    [
        ("creators", "*::test_marked is marked @pytest.mark.creators without a creator."),
        ("creators([])", "*::test_marked is marked @pytest.mark.creators without a creator."),
        ("creators([frozen], module=0)", "*unexpected keyword 'module' (did you mean 'modules'?)."),
        ("creators([3])", "@pytest.mark.creators got 3, which is not callable."),
        ("creators(['math:pi'])", "@pytest.mark.creators got 3.14*, which is not callable."),
        ("creators('nowhere:frozen')", "The creator 'nowhere:frozen' cannot be found: *"),
        ("creators('test_suite:gone')", "The creator 'test_suite:gone' cannot be found: *"),
        ("creators('two words')", "The creator 'two words' cannot be found: *"),
    ],
)
def test_misuse_is_explained(suite, marker, complaint):
    """A marker that means nothing fails its test, in words."""
    result = suite.write(f"@pytest.mark.{marker}\ndef test_marked():\n    pass").run()
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines([complaint])


def test_an_unknown_allowance_is_explained(suite):
    """A misspelt allowance is refused with the nearest one, where it would have counted."""
    result = suite.write(
        """
        @pytest.mark.torchcreator(allow_open_scope=True)
        def test_marked():
            tc.creator_scope(frozen).__enter__()
        """
    ).run()
    result.assert_outcomes(passed=1, errors=1)
    result.stdout.fnmatch_lines(["*'allow_open_scope' (did you mean 'allow_open_scopes'?)."])


def test_a_creator_marked_in_place_of_its_test_is_found(suite):
    """``creators(function)`` marks the function, in pytest; the test does not vanish unnoticed."""
    result = suite.write(
        """
        def passing(next_creator, **kwargs):
            return next_creator(**kwargs)

        @pytest.mark.creators(passing)
        def test_gone():
            pass
        """
    ).run()
    result.assert_outcomes(errors=1)
    result.stdout.fnmatch_lines(
        [
            "*@pytest.mark.creators(passing) marked passing itself.",
            "*Put it into a list: @pytest.mark.creators([[]creator]).",
        ]
    )


@pytest.mark.skipif(
    sys.version_info < (3, 11),
    reason="Python 3.10 reports the line of the def, which does not tell the marker",
)
def test_a_creator_called_with_its_test_is_explained(suite):
    """Where that call raises, the error comes with the same explanation."""
    result = suite.write(
        """
        @pytest.mark.creators(frozen)
        def test_called():
            pass
        """
    ).run()
    result.assert_outcomes(errors=1)
    result.stdout.fnmatch_lines(
        ["*unexpected keyword argument 'trainable'", "*Put it into a list:*"]
    )
