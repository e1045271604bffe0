"""Training as a recipe: each step of it is a call whose name says what it does."""

import contextlib
import os
from pathlib import Path

from codex_jax import config, rundir, sharding
from codex_jax.hosts import alike, join
from codex_jax.journal.health import GoBack
from codex_jax.run import engine, standing
from codex_jax.run.course import Course
from codex_jax.run.materials import open_materials
from codex_jax.run.records import open_records
from codex_jax.run.site import Site
from codex_jax.signals import StopRequest
from codex_jax.tokenizers import loading
from codex_jax.training import beginning, program
from codex_jax.training.state import TrainState
from codex_jax.watchdog import Watchdog


def train(settings: config.Config, origin: dict[str, str], workdir: Path, stop: StopRequest) -> TrainState:
    """Train to the end, from the newest valid checkpoint of `workdir` or from the beginning; return the final state.

    Raises CodexError: its message is for the user, and everything up to the last checkpoint is kept.
    """
    program.use_compile_cache()
    with contextlib.ExitStack() as stack:
        team = stack.enter_context(join.join(settings.parallel, lambda: stop.raise_if_asked("before all had come")))
        site = Site(workdir, team, sharding.make_mesh(settings.parallel), stop, Watchdog())
        sharding.check_batch(settings.train, site.mesh)
        settings = loading.of_weights(beginning.decided(workdir, settings))
        alike.check_start(team, settings)
        if team.is_first:
            stack.enter_context(rundir.claim(workdir))
        owner = team.decide(os.getpid)
        if not team.is_first:
            rundir.check_shared(workdir, owner)
        while True:
            with contextlib.suppress(GoBack):
                return recipe(settings, origin, site)


def recipe(settings: config.Config, origin: dict[str, str], site: Site) -> TrainState:
    """Train from where the run stands to its end; GoBack when it is to go on from its newest checkpoint once more."""
    run = standing.find(settings, origin, site)
    site.between()
    with open_materials(run) as materials:
        made = engine.make(run, materials)
        state, totals = engine.begin(run, materials, made)
        with open_records(run, materials, made, totals) as records:
            course = Course(run, materials, made, state, records)
            course.make_up()
            while not course.is_over:
                course.advance(course.next_batch())
                course.evaluate_if_due()
                course.save_if_due()
    return course.state
