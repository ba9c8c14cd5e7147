"""The plugin beside others, and in tests of other forms."""

from __future__ import annotations

import importlib.util
import re

import pytest


def needs(module):
    """Skip where a plugin is not installed."""
    missing = importlib.util.find_spec(module) is None
    return pytest.mark.skipif(missing, reason=f"{module} is not installed")


def test_unittest_classes(suite):
    """Markers, fixtures and the guard serve unittest's classes, asynchronous ones too."""
    result = suite.write(
        """
        import unittest

        @pytest.mark.creators([frozen])
        @pytest.mark.usefixtures("fake_variables")
        class TestPlain(unittest.TestCase):
            def setUp(self):
                self.layer = nn.Linear(2, 2)

            def test_in_scope(self):
                self.assertFalse(self.layer.weight.requires_grad)
                self.assertTrue(torch.equal(self.layer.weight, nn.Linear(2, 2).weight))

        class TestAsync(unittest.IsolatedAsyncioTestCase):
            @pytest.mark.creators([frozen])
            async def test_in_scope(self):
                assert is_frozen()

            async def test_leaves(self):
                tc.creator_scope(frozen).__enter__()  # opened

            async def test_out_of_scope(self):
                assert not is_frozen()

        class TestShared(unittest.TestCase):
            @classmethod
            def setUpClass(cls):
                cls.scope = tc.creator_scope(frozen)
                cls.scope.__enter__()

            @classmethod
            def tearDownClass(cls):
                cls.scope.__exit__(None, None, None)

            def test_first(self):
                assert is_frozen()

            def test_second(self):
                assert is_frozen()
        """
    ).run()
    result.assert_outcomes(passed=6, errors=1)
    result.stdout.fnmatch_lines(
        [
            "*TestAsync::test_leaves left a creator scope open:",
            f"*opened at test_suite.py:{suite.line('opened')}",
        ]
    )


def test_doctests(suite):
    """Creators of the configuration are asked in doctests too, and doctests are guarded."""
    suite.pytester.makepyfile(
        example='''
        """
        >>> import torchcreator as tc
        >>> tc.variable(1.0).requires_grad
        False
        >>> tc.creator_scope(lambda next_creator, **kwargs: None).__enter__()
        """

        def frozen(next_creator, **kwargs):
            return next_creator(**{**kwargs, "trainable": False})
        '''
    )
    suite.write("", ini="torchcreator_creators = example:frozen\npythonpath = .")
    result = suite.run("--doctest-modules", "example.py")
    result.assert_outcomes(passed=1, errors=1)
    result.stdout.fnmatch_lines(["*left a creator scope open:", "*opened at <doctest example*:1"])


@needs("pytest_asyncio")
def test_asyncio(suite):
    """Fixtures and markers reach into pytest-asyncio's tests, and what they leave is found."""
    result = suite.write(
        """
        import pytest_asyncio

        pytestmark = pytest.mark.asyncio

        @pytest_asyncio.fixture
        async def layer():
            return nn.Linear(2, 2)

        @pytest.mark.creators([frozen])
        async def test_in_scope(fake_variables, layer, creator_scopes):
            assert not layer.weight.requires_grad
            assert torch.equal(layer.weight, nn.Linear(2, 2).weight)
            creator_scopes(tc.testing.FakeCreator())
            nn.Linear(2, 2)

        async def test_leaves():
            assert not is_frozen()
            tc.creator_scope(frozen).__enter__()

        async def test_out_of_scope():
            assert not is_frozen()
        """,
        ini="asyncio_default_fixture_loop_scope = function",
    ).run("-p", "pytest_asyncio.plugin")
    result.assert_outcomes(passed=3, errors=1)


@needs("pytest_randomly")
def test_any_order(suite):
    """pytest-randomly shuffles the tests, and each gets the same names and fakes all the same."""
    suite.write(
        """
        values = []

        @pytest.mark.parametrize("number", range(8))
        def test_same(fake_variables, number):
            values.append(nn.Linear(3, 3).weight)
            assert torch.equal(values[0], values[-1])
            assert tc.spec_of(tc.variable(1.0, name="w")).name == "w"
        """
    )
    orders = []
    for seed in ("1", "2"):
        result = suite.run("-v", "-p", "pytest_randomly", f"--randomly-seed={seed}")
        result.assert_outcomes(passed=8)
        orders.append(re.findall(r"test_same\[(\d)\] PASSED", result.stdout.str()))
    assert orders[0] != orders[1]


@needs("xdist")
def test_several_processes(suite):
    """With pytest-xdist every worker has the fixtures, the creators and the guard."""
    suite.write(
        """
        @pytest.mark.parametrize("number", range(4))
        def test_fakes(fake_variables, number):
            assert torch.equal(nn.Linear(2, 2).weight, nn.Linear(2, 2).weight)
            assert is_frozen()

        def test_leaves():
            tc.creator_scope(frozen).__enter__()  # opened
        """,
        ini="torchcreator_creators = test_suite:frozen",
    )
    arguments = ("-p", "torchcreator.pytest_plugin", "-p", "xdist", "-n", "2")
    result = suite.pytester.runpytest_subprocess(*arguments)
    result.assert_outcomes(passed=5, errors=1)
    result.stdout.fnmatch_lines([f"*opened at test_suite.py:{suite.line('opened')}"])
