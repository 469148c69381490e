"""Times of packets and pictures: kept where they can be used, repaired where not."""

import json
from dataclasses import dataclass
from fractions import Fraction
from typing import Any, cast

import pytest

from film.read.timeline import JoinedTimeline, PictureTimes

PICTURE, SOUND = 0, 1


@dataclass
class Packet:
    """What a timeline looks at, of a packet."""

    dts: int | None
    pts: int | None = None
    stream_index: int = PICTURE
    time_base: Fraction = Fraction(1, 10)
    duration: int | None = 1


def placed(timeline: JoinedTimeline, *packets: Packet) -> list[int | None]:
    """Return the packets' dts, as they are moved."""
    for packet in packets:
        timeline.place(cast("Any", packet))
    return [packet.dts for packet in packets]


def test_times_stay_as_they_are_with_gaps_and_small_steps_back() -> None:
    timeline = JoinedTimeline()
    given = [50, 51, 90, 80, 81, 500, 490]
    assert placed(timeline, *map(Packet, given)) == given
    assert timeline.joins == 0


def test_a_film_whose_clock_jumps_back_goes_on() -> None:
    timeline = JoinedTimeline()
    assert placed(timeline, *map(Packet, [100, 101, 0, 30])) == [100, 101, 102, 132]
    assert timeline.joins == 1
    # A second jump adds to the first.
    assert placed(timeline, Packet(5), Packet(7)) == [133, 135]
    assert timeline.joins == 2


def test_the_jumping_packets_own_duration_parts_it_from_the_one_before() -> None:
    timeline = JoinedTimeline()
    assert placed(timeline, Packet(100), Packet(0, duration=7)) == [100, 107]
    timeline = JoinedTimeline()
    assert placed(timeline, Packet(100), Packet(0, duration=None)) == [100, 100]


@pytest.mark.parametrize(("back", "joins"), [(90, 0), (89, 1)])
def test_only_more_than_a_second_back_is_a_jump(back: int, joins: int) -> None:
    timeline = JoinedTimeline()
    placed(timeline, Packet(100), Packet(back))
    assert timeline.joins == joins


def test_picture_and_sound_are_moved_by_the_same() -> None:
    timeline = JoinedTimeline()
    placed(timeline, Packet(100), Packet(1000, stream_index=SOUND, time_base=Fraction(1, 100)))
    assert placed(timeline, Packet(0), Packet(1)) == [101, 102]
    sound = Packet(20, pts=30, stream_index=SOUND, time_base=Fraction(1, 100))
    assert placed(timeline, sound) == [1030]
    assert sound.pts == 1040
    assert timeline.joins == 1


def test_a_move_is_rounded_to_a_streams_ticks() -> None:
    timeline = JoinedTimeline()
    placed(timeline, Packet(100), Packet(30, stream_index=SOUND, time_base=Fraction(1, 3)))
    placed(timeline, Packet(0))
    # Moved by 10.1 seconds: 30.3 ticks of a third.
    assert placed(timeline, Packet(0, stream_index=SOUND, time_base=Fraction(1, 3))) == [30]


def test_a_single_wrong_time_is_no_jump_for_those_behind_it() -> None:
    timeline = JoinedTimeline()
    given = [Packet(100), Packet(0), Packet(101), Packet(500)]
    assert placed(timeline, *given)[2:] == [101, 500]
    assert timeline.joins == 0
    # A recording joined on later begins where that one ends, whatever the wrong time was.
    assert placed(timeline, Packet(0), Packet(1)) == [501, 502]
    assert timeline.joins == 1


def test_a_wrong_time_of_one_stream_moves_no_other() -> None:
    timeline = JoinedTimeline()
    rate = Fraction(1, 10)
    placed(timeline, Packet(100), Packet(100, stream_index=SOUND))
    # Both jump; one of them was wrong, the other's new recording stays as it is.
    assert placed(timeline, Packet(0), Packet(0, stream_index=SOUND)) == [101, 101]
    assert placed(timeline, Packet(101)) == [101]
    assert placed(timeline, Packet(1, stream_index=SOUND, time_base=rate)) == [102]
    assert timeline.joins == 1
    # Once that goes on as well, nothing has been joined.
    assert placed(timeline, Packet(102, stream_index=SOUND)) == [102]
    assert timeline.joins == 0


@pytest.mark.parametrize("on", [99, 110])
def test_a_jump_forward_elsewhere_stays_in_the_new_part(on: int) -> None:
    timeline = JoinedTimeline()
    # Moved by 101; the old clock would be at 100 to 109.
    assert placed(timeline, Packet(100), Packet(0), Packet(on)) == [100, 101, 101 + on]


@pytest.mark.parametrize("on", [100, 109])
def test_a_jump_to_where_the_old_clock_stood_goes_back_to_it(on: int) -> None:
    timeline = JoinedTimeline()
    assert placed(timeline, Packet(100), Packet(0), Packet(on)) == [100, 101, on]


def test_a_short_step_forward_is_none_onto_the_old_clock() -> None:
    timeline = JoinedTimeline()
    # 10.0 after 0: one second on from 9.0 is not more than a second.
    moved = placed(timeline, Packet(100), Packet(85), Packet(95), Packet(105))
    assert moved == [100, 101, 111, 121]


def test_presentation_times_count_where_there_are_no_others() -> None:
    timeline = JoinedTimeline()
    packets = [Packet(None, pts=100), Packet(None, pts=0), Packet(None)]
    assert placed(timeline, *packets) == [None, None, None]
    assert [packet.pts for packet in packets] == [100, 101, None]
    assert timeline.joins == 1


def times(
    *given: tuple[int | None, int | None], duration: int = 0
) -> tuple[list[int], PictureTimes]:
    """Return the times of pictures with these pts and dts."""
    made = PictureTimes()
    return [made.next(pts, dts, duration) for pts, dts in given], made


def test_pictures_keep_their_own_times() -> None:
    found, made = times((5, 3), (7, 4), (20, 5), (21, 6))
    assert found == [5, 7, 20, 21]
    assert made.repaired == 0


def test_pictures_without_times_of_their_own_have_their_packets() -> None:
    found, made = times((None, 3), (None, 4), (None, 9))
    assert found == [3, 4, 9]
    assert made.repaired == 0


def test_times_that_run_backwards_less_often_are_followed() -> None:
    # Its own run backwards again and again, the packets' never.
    found, made = times((0, 0), (3, 1), (2, 2), (1, 3), (6, 4), (5, 5))
    assert found == [0, 3, 4, 5, 6, 7]
    found, made = times((0, 0), (1, 1), (2, 1), (3, 1), (4, 1))
    assert (found, made.repaired) == ([0, 1, 2, 3, 4], 0)
    # As often: its own.
    found, made = times((0, 0), (10, 4), (9, 3), (11, 5))
    assert (found, made.repaired) == ([0, 10, 11, 12], 2)


def test_the_same_time_twice_is_wrong() -> None:
    found, made = times((0, 0), (0, 1), (0, 2), (0, 3))
    assert (found, made.repaired) == ([0, 1, 2, 3], 0)
    found, made = times((0, 0), (1, 0), (2, 0), (3, 0))
    assert (found, made.repaired) == ([0, 1, 2, 3], 0)


def test_a_picture_that_is_not_after_the_one_before_comes_right_after_it() -> None:
    found, made = times((0, None), (10, None), (10, None), (4, None), (12, None), (13, None))
    assert found == [0, 10, 11, 12, 13, 14]
    assert made.repaired == 4


def test_one_without_any_time_is_as_far_on_as_the_last_step() -> None:
    found, made = times((0, None), (4, None), (None, None), (12, None))
    assert (found, made.repaired) == ([0, 4, 8, 12], 1)
    found, made = times((None, None), (None, None), (5, None))
    assert (found, made.repaired) == ([0, 1, 5], 2)


def test_a_known_duration_is_the_step() -> None:
    found, _ = times((0, None), (4, None), (None, None), (None, None), duration=3)
    assert found == [0, 4, 7, 10]


def test_a_duration_of_one_tick_is_known() -> None:
    made = PictureTimes()
    assert [made.next(0, None, 0), made.next(4, None, 0), made.next(8, None, 1)] == [0, 4, 8]
    assert made.next(None, None, 0) == 9


def test_a_last_known_duration_holds_until_the_next_step() -> None:
    made = PictureTimes()
    assert made.next(0, None, 7) == 0
    assert made.next(None, None, 0) == 7
    assert made.next(9, None, 0) == 9
    assert made.next(None, None, 0) == 11


def test_a_time_out_of_order_does_not_change_the_step() -> None:
    found, _ = times((0, None), (4, None), (4, None), (None, None))
    assert found == [0, 4, 5, 9]


def test_the_last_few_without_times_are_no_repair() -> None:
    _, made = times((0, None), (1, None), (None, None), (None, None))
    assert made.repaired == 0


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        # Two wrong of its own, one of the packets', and the other way round.
        ([(0, 0), (5, 1), (4, 2), (3, 2), (20, 15)], 15),
        ([(0, 0), (5, 5), (6, 4), (7, 3), (6, 8), (20, 15)], 20),
        # One each: the same time twice is as wrong as one before it.
        ([(0, 0), (10, 5), (9, 5), (20, 15)], 20),
        # Where one is missing the other stands in for it: 15 is before 20 in either column.
        ([(10, 10), (None, 20), (15, 30)], 30),
        ([(10, 10), (9, 11), (20, None), (30, 15)], 30),
    ],
)
def test_every_wrong_time_counts(given: list[tuple[int | None, int | None]], expected: int) -> None:
    found, _ = times(*given)
    assert found[-1] == expected


def test_a_missing_time_stands_in_for_the_other_of_its_kind() -> None:
    # After 9, known from the packet alone, 8 is backwards.
    found, _ = times((None, 9), (8, None), (None, 12), (11, 13), (14, 14))
    assert found == [9, 10, 12, 13, 14]


def test_it_goes_on_where_it_stopped() -> None:
    given = [(0, 0), (3, 1), (None, None), (2, 2), (1, 3), (6, 4), (None, None), (9, 5)]
    whole, _ = times(*given)
    for cut in range(len(given)):
        before = PictureTimes()
        first = [before.next(pts, dts, 0) for pts, dts in given[:cut]]
        after = PictureTimes()
        after.restore(json.loads(json.dumps(before.to_json())))
        assert first + [after.next(pts, dts, 0) for pts, dts in given[cut:]] == whole
        assert after.repaired >= before.repaired
