"""Test sessions: `nox` runs the suite on every Python, `nox -s slow`, `nox -s gpu` and `nox -s check` the rest."""

import nox


nox.options.sessions = ["tests"]
nox.options.default_venv_backend = "venv"
PYTHONS = ["3.11", "3.12", "3.13"]


def install(session: nox.Session) -> None:
    """Install what is locked, and the package itself."""
    session.install("--require-hashes", "-r", "requirements.lock")
    session.install("--no-deps", "--no-build-isolation", "-e", ".")


@nox.session(python=PYTHONS)
def tests(session: nox.Session) -> None:
    """The default suite."""
    install(session)
    session.run("python", "-m", "pytest", *session.posargs)


@nox.session
def slow(session: nox.Session) -> None:
    """The tests that take longer than the default run allows; those of models again, compiled as users have them."""
    install(session)
    env = {"JAX_DISABLE_MOST_OPTIMIZATIONS": "0"}
    session.run("python", "-m", "pytest", "-m", "slow or model and not gpu", *session.posargs, env=env)


@nox.session
def faults(session: nox.Session) -> None:
    """Every fault of disks and kills, the long tests too: 200 random kills of a saver, whose seed -rP prints."""
    install(session)
    where = ["tests/checkpoint", "tests/whole/test_resume.py", "tests/whole/test_storage_run.py", *session.posargs]
    session.run("python", "-m", "pytest", "-m", "infra", "-rP", *where, env={"TEST_KILLS": "200"})


@nox.session(python="3.12")
def beam(session: nox.Session) -> None:
    """The store built by Apache Beam, whose own bounds rule out what is locked."""
    session.install("--only-binary", "apache-beam", "-e", ".[beam]", "pytest>=8.3", "hypothesis>=6.100")
    session.run("python", "-m", "pytest", "tests/data/test_store_beam.py", *session.posargs)


@nox.session
def cloud(session: nox.Session) -> None:
    """Files in buckets, read by the clients of S3 and Google Cloud Storage, which are not locked."""
    install(session)
    session.install("-e", ".[gcs,hf,s3]", "--no-build-isolation")
    session.run("python", "-m", "pytest", "tests/data/test_buckets.py", *session.posargs)


@nox.session
def gpu(session: nox.Session) -> None:
    """The tests that say something on a GPU; the CUDA packages are not in the lock, which only bounds them."""
    install(session)
    session.install("-e", ".[gpu]", "--no-build-isolation")
    # Models and steps as on a CPU, what needs a GPU, and runs that are killed and resumed.
    env = {"JAX_PLATFORMS": "cuda", "XLA_PYTHON_CLIENT_PREALLOCATE": "false"}
    session.run("python", "-m", "pytest", "-m", "gpu or model", *session.posargs, env=env)
    session.run("python", "-m", "pytest", "tests/whole/test_resume.py", *session.posargs, env=env)


@nox.session
def check(session: nox.Session) -> None:
    """Format, lint, types, floors and house rules, in the environment of scripts/train."""
    session.run("scripts/check", external=True)
