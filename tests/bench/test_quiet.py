from bench.quiet import TOLERANCE, Calibration, calibrate, is_quiet


def test_a_turn_is_quiet_where_the_loop_was_not_slow_on_either_side() -> None:
    usual, slow = 1.0, TOLERANCE * 1.01
    others = [Calibration(usual, usual)] * 3
    assert is_quiet(Calibration(usual, usual * TOLERANCE), others)
    assert not is_quiet(Calibration(slow, usual), others)
    assert not is_quiet(Calibration(usual, slow), others)


def test_one_very_fast_run_does_not_make_all_others_slow() -> None:
    others = [Calibration(1.0, 1.0)] * 4
    assert is_quiet(Calibration(1.0, 1.0), [Calibration(0.5, 1.0), *others])


def test_the_loop_takes_time() -> None:
    assert calibrate() > 0
