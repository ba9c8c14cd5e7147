"""The options of the configuration file."""

from __future__ import annotations

import pytest


def test_creators_for_every_test(suite):
    """``torchcreator_creators`` are asked in every test, outside those of its markers."""
    suite.write(
        """
        first, second = noting("first"), noting("second")

        @pytest.mark.creators([noting("marker")])
        def test_marked(creator_scopes):
            creator_scopes(noting("fixture"))
            tc.variable(1.0)
            assert asked == ["fixture", "marker", "second", "first"]

        def test_unmarked():
            asked.clear()
            tc.variable(1.0)
            assert asked == ["second", "first"]
        """,
        ini="""
        torchcreator_creators =
            test_suite:first
            test_suite:second
        """,
    ).run().assert_outcomes(passed=2)


def test_a_whole_suite_on_fakes(suite):
    """With FakeCreator in the configuration every model is fake, and each test has its own."""
    suite.write(
        """
        @pytest.mark.parametrize("again", [0, 1])
        def test_fake(again):
            assert torch.equal(nn.Linear(2, 2).weight, nn.Linear(2, 2).weight)
        """,
        ini="torchcreator_creators = torchcreator.testing:FakeCreator",
    ).run().assert_outcomes(passed=2)


@pytest.mark.parametrize("strict", ["true", "false"])
def test_strictness(suite, strict):
    """``torchcreator_strict = false`` lets everything pass; nothing is left for the next test."""
    errors = 3 if strict == "true" else 0
    suite.write(
        """
        def test_open():
            tc.creator_scope(frozen).__enter__()

        def test_hooks():
            nn.modules.module._global_parameter_registration_hooks.clear()

        def test_unused(fake_variables):
            pass

        def test_after():
            with tc.creator_scope(noting("x")):
                assert not is_frozen()
            assert asked == ["x", "x"]
        """,
        ini=f"torchcreator_strict = {strict}",
    ).run().assert_outcomes(passed=4, errors=errors)


def test_everything_is_registered(suite):
    """pytest, at its strictest, knows the markers and the options, and lists the fixtures."""
    suite.write(
        """
        @pytest.mark.creators([frozen])
        @pytest.mark.torchcreator(allow_open_scopes=True)
        def test_known():
            pass
        """,
        ini="strict = true\ntorchcreator_strict = true\nfilterwarnings = error",
    )
    suite.run("-W", "ignore::pytest.PytestAssertRewriteWarning").assert_outcomes(passed=1)
    suite.run("--markers").stdout.fnmatch_lines(
        ["@pytest.mark.creators(*creators, modules=True): open *", "@pytest.mark.torchcreator(*"]
    )
    suite.run("--fixtures").stdout.fnmatch_lines(
        ["fake_variables -- *", "*Give every variable made in the test a fake value*"]
    )
