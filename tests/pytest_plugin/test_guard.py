"""What a test leaves behind is closed and restored, and fails it."""

from __future__ import annotations

import pytest

BEHIND = "The variables of every later test would have gone through it; it is closed now."


def test_an_open_scope_fails_its_test(suite):
    """A scope left open is an error that names the scope and the line that opened it."""
    result = suite.write(
        """
        def test_leaves():
            tc.creator_scope(frozen).__enter__()  # opened

        def test_after():
            assert not is_frozen()
        """
    ).run()
    result.assert_outcomes(passed=2, errors=1)
    result.stdout.fnmatch_lines(
        [
            "*ERROR at teardown of test_leaves*",
            "test_suite.py::test_leaves left a creator scope open:",
            f"  creator_scope(frozen), opened at test_suite.py:{suite.line('opened')}",
            BEHIND,
            "Write `with creator_scope(...):`, or let the fixture close it: "
            "creator_scopes(creator).",
            "If it is on purpose: @pytest.mark.torchcreator(allow_open_scopes=True).",
        ],
        consecutive=True,
    )


def test_every_open_scope_is_listed(suite):
    """Several scopes are listed from the innermost, with the lines of those who opened them."""
    result = suite.write(
        """
        import contextlib

        def test_leaves():
            contextlib.ExitStack().enter_context(tc.creator_scope(frozen))  # first
            with tc.creator_scope(frozen):
                tc.creator_scope(noting("x"), modules=False).__enter__()  # second
        """
    ).run()
    result.assert_outcomes(failed=1, errors=1)  # torchcreator itself says the nesting is wrong
    result.stdout.fnmatch_lines(
        [
            "test_suite.py::test_leaves left 2 creator scopes open:",
            f"  creator_scope(noting.*), opened at test_suite.py:{suite.line('second')}",
            f"  creator_scope(frozen), opened at test_suite.py:{suite.line('first')}",
        ]
    )


def test_a_fixture_of_the_test_is_not_excused(suite):
    """A function-scoped fixture, setup_method and a fixture's teardown count as the test."""
    result = suite.write(
        """
        @pytest.fixture
        def leaving():
            tc.creator_scope(frozen).__enter__()

        @pytest.fixture
        def leaving_late():
            yield
            tc.creator_scope(frozen).__enter__()

        def test_setup(leaving):
            pass

        def test_teardown(leaving_late):
            pass

        class TestMethod:
            def setup_method(self):
                tc.creator_scope(frozen).__enter__()

            def test_method(self):
                pass
        """
    ).run()
    result.assert_outcomes(passed=3, errors=3)


def test_a_fixture_for_many_tests_may_keep_its_scope(suite):
    """A scope that a wider fixture opened stays open over its tests, until it is torn down."""
    suite.write(
        """
        @pytest.fixture(scope="module")
        def session():
            with tc.creator_scope(frozen):
                yield

        class TestClass:
            @classmethod
            def setup_class(cls):
                cls.scope = tc.creator_scope(noting("class"))
                cls.scope.__enter__()

            @classmethod
            def teardown_class(cls):
                cls.scope.__exit__(None, None, None)

            def test_first(self, session):
                assert is_frozen()
                assert asked == ["class"] * 2

            def test_second(self, session):
                assert is_frozen()
                assert asked == ["class"] * 4

        def test_third(session):
            assert is_frozen()
            assert asked == ["class"] * 4
        """
    ).run().assert_outcomes(passed=3)


def test_a_fixture_for_many_tests_has_to_close_it(suite):
    """A wider fixture that never closes its scope fails the test after which it is torn down."""
    result = suite.write(
        """
        @pytest.fixture(scope="class")
        def leaving():
            tc.creator_scope(frozen).__enter__()  # opened

        class TestClass:
            def test_first(self, leaving):
                pass

            def test_second(self, leaving):
                assert is_frozen()

        def test_third():
            assert not is_frozen()
        """
    ).run()
    result.assert_outcomes(passed=3, errors=1)
    result.stdout.fnmatch_lines(
        [
            "*ERROR at teardown of TestClass.test_second*",
            "*TestClass::test_second left a creator scope open:",
            f"*opened at test_suite.py:{suite.line('opened')}",
        ]
    )


def test_a_fixture_for_many_tests_excuses_no_test(suite):
    """A test that leaves a scope open is found while a wider fixture keeps its own."""
    suite.write(
        """
        @pytest.fixture(scope="module")
        def shared():
            with tc.creator_scope(noting("shared")):
                yield

        def test_leaves(shared):
            tc.creator_scope(frozen).__enter__()

        def test_after(shared):
            assert not is_frozen()
            assert "shared" in asked
        """
    ).run().assert_outcomes(passed=2, errors=1)


def test_a_scope_opened_before_the_tests_stays(suite):
    """A conftest may open a scope for the whole run."""
    suite.pytester.makeconftest(
        """
        import torchcreator as tc

        def frozen(next_creator, **kwargs):
            return next_creator(**{**kwargs, "trainable": False})

        scope = tc.creator_scope(frozen)

        def pytest_sessionstart():
            scope.__enter__()

        def pytest_sessionfinish():
            scope.__exit__(None, None, None)
        """
    )
    suite.write(
        """
        @pytest.mark.parametrize("again", [0, 1])
        def test_frozen(again):
            assert is_frozen()
        """
    ).run().assert_outcomes(passed=2)


@pytest.mark.parametrize(
    "opening",
    [
        "asyncio.run(leaving())",
        "in_a_thread(open_one)",
        "contextvars.copy_context().run(open_one)",
    ],
    ids=["task", "thread", "context"],
)
def test_a_scope_of_a_task_or_thread_is_found(suite, opening):
    """A scope that this thread cannot see counts too, and nothing that it set up stays."""
    result = suite.write(
        f"""
        import asyncio, contextvars, threading
        from torchcreator._torch.dispatch import dispatch_stack_depth

        def open_one():
            tc.creator_scope(tc.testing.FakeCreator()).__enter__()  # opened
            nn.Linear(1, 1)

        async def leaving():
            open_one()

        def in_a_thread(function):
            thread = threading.Thread(target=function)
            thread.start()
            thread.join()

        def test_leaves():
            {opening}

        def test_after():
            assert dispatch_stack_depth() == 0
        """
    ).run()
    result.assert_outcomes(passed=2, errors=1)
    result.stdout.fnmatch_lines([f"*opened at test_suite.py:{suite.line('opened')}"])


def test_open_scopes_may_be_allowed(suite):
    """A marker or the configuration allows a test to leave scopes open; they are closed still."""
    source = """
        @pytest.mark.torchcreator(allow_open_scopes=True)
        def test_allowed():
            tc.creator_scope(frozen).__enter__()

        def test_after():
            assert not is_frozen()
            tc.creator_scope(frozen).__enter__()

        def test_after_that():
            assert not is_frozen()
        """
    suite.write(source).run().assert_outcomes(passed=3, errors=1)
    suite.write(source, ini="torchcreator_strict = false").run().assert_outcomes(passed=3)


def test_scopes_of_fixtures_close_around_an_open_one(suite):
    """The scopes of marker and fixtures close without complaint around the one that was left."""
    result = suite.write(
        """
        @pytest.mark.creators([frozen])
        def test_leaves(fake_variables, creator_scopes):
            creator_scopes(frozen)
            tc.creator_scope(frozen).__enter__()  # opened
            nn.Linear(1, 1)
            creator_scopes(frozen)

        def test_after():
            assert not is_frozen()
        """
    ).run()
    result.assert_outcomes(passed=2, errors=1)
    result.stdout.fnmatch_lines(
        [
            "*left a creator scope open:",
            f"  creator_scope(frozen), opened at test_suite.py:{suite.line('opened')}",
            BEHIND,
        ],
        consecutive=True,
    )


def test_a_teardown_that_fails_by_itself_keeps_its_error(suite):
    """Where a fixture's teardown raises, that is the error, and what was left stands below it."""
    result = suite.write(
        """
        @pytest.fixture
        def failing():
            yield
            raise ValueError("of the fixture")

        def test_leaves(failing):
            tc.creator_scope(frozen).__enter__()
        """
    ).run()
    result.assert_outcomes(passed=1, errors=1)
    result.stdout.fnmatch_lines(["E *ValueError: of the fixture", "*left a creator scope open:"])
