"""The history keeps what plays the current episodes again, and what a recorder has yet to take."""

import numpy as np

from retain.envs.history import History


def walk(history, steps, every=3):
    for t in range(steps):
        if t % every == 0:
            history.begin(np.array([True, t == 0]), np.array([t, t]))
        history.record(np.array([t, -t]))


def test_current_episodes_are_kept_and_older_steps_go(monkeypatch):
    monkeypatch.setattr("retain.envs.history.TRIM", 8)
    history = History(2)
    walk(history, 60)
    assert history.length.tolist() == [3, 60]
    assert history.actions_of(0) == [57, 58, 59]
    assert history.actions_of(0, but_last=1) == [57, 58]
    assert len(history.actions()) == 60
    history.begin(np.array([False, True]), np.array([0, 99]))
    assert len(history.actions()) == 3
    assert history.seeds.tolist() == [57, 99]


def test_what_nobody_has_taken_yet_is_not_thrown_away(monkeypatch):
    monkeypatch.setattr("retain.envs.history.TRIM", 8)
    history = History(2)
    history.unread = 0
    for t in range(60):
        history.begin(np.array([True, True]), np.array([t, t]))
        history.record(np.array([t, -t]))
    assert [row[0] for row in history.take()] == list(range(60))
    for t in range(60, 90):
        history.begin(np.array([True, True]), np.array([t, t]))
        history.record(np.array([t, -t]))
    assert len(history._actions) < 60
    assert [row[0] for row in history.take()] == list(range(60, 90))
