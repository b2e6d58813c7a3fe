#!/bin/sh
# Makes a Debian 12 machine ready to build, test and run Raylet: packages that are missing, and the checkout's
# Python environments. Run again it looks, finds everything in place and changes nothing.
#
#   deploy/bootstrap.sh              packages and .venv
#   deploy/bootstrap.sh --packages   packages alone
#   deploy/bootstrap.sh --fuzz       also Clang
#   deploy/bootstrap.sh --tests      also what tests need in .venv, and .venv-oldest (the oldest Dask)
#   deploy/bootstrap.sh --ray        also .venv-ray (the Ray wheel, for the benchmark); its failure is no failure
set -eu
cd "$(dirname "$0")/.."

say() { echo "bootstrap: $*" >&2; }
fail() { say "$*"; exit 1; }

as_root() {
  if [ "$(id -u)" = 0 ]; then
    "$@"
  elif command -v sudo >/dev/null 2>&1; then
    sudo "$@"
  else
    say "installing Debian packages needs root, and there is no sudo here"
    fail "as root: apt-get install $missing"
  fi
}

install_packages() {
  command -v dpkg-query >/dev/null 2>&1 ||
    fail "expected Debian 12 (no dpkg-query here); elsewhere install what deploy/packages.txt stands for by hand"
  wanted=$(sed 's/#.*//' "$@")
  # shellcheck disable=SC2086  # a list of words
  present=$(dpkg-query -W -f '${db:Status-Status} ${Package}\n' $wanted 2>/dev/null |
    sed -n 's/^installed //p' | sort -u || true)
  missing=
  for package in $wanted; do
    echo "$present" | grep -qxF "$package" || missing="$missing $package"
  done
  [ -z "$missing" ] && return 0
  say "installing:$missing"
  # Debian's redis-server package starts a service of its own, which nobody here wants: Raylet starts its own
  # Redis on a private socket. policy-rc.d keeps it from starting, disabling from starting at the next boot.
  made_policy=no
  if [ ! -e /usr/sbin/policy-rc.d ]; then
    printf '#!/bin/sh\nexit 101\n' | as_root tee /usr/sbin/policy-rc.d >/dev/null
    as_root chmod 755 /usr/sbin/policy-rc.d
    made_policy=yes
  fi
  status=0
  # shellcheck disable=SC2086
  { as_root apt-get update -q &&
    as_root env DEBIAN_FRONTEND=noninteractive apt-get install -q -y --no-install-recommends $missing
  } >build/bootstrap-apt.log 2>&1 </dev/null || status=$?
  [ "$made_policy" = yes ] && as_root rm -f /usr/sbin/policy-rc.d
  [ "$status" = 0 ] || {
    tail -n 20 build/bootstrap-apt.log >&2
    fail "apt-get failed (exit $status); all of it is in build/bootstrap-apt.log"
  }
  case "$missing" in
    *redis-server*)
      if [ -d /run/systemd/system ]; then
        as_root systemctl disable --quiet --now redis-server || true
      elif command -v update-rc.d >/dev/null 2>&1; then
        as_root update-rc.d redis-server disable || true
      fi
      ;;
  esac
}

# environment DIRECTORY REQUIREMENTS: skipped when these requirements have been installed there before.
environment() {
  wanted_hash=$(sha256sum "$2" | cut -d' ' -f1)
  installed=$1/raylet-$(basename "$2" .txt).sha256
  if [ "$(cat "$installed" 2>/dev/null)" != "$wanted_hash" ]; then
    say "installing $2 into $1"
    [ -x "$1/bin/python" ] || /usr/bin/python3 -m venv "$1" || return 1
    log=build/bootstrap-pip-$(basename "$2" .txt).log
    "$1/bin/python" -m pip install -q --disable-pip-version-check -r "$2" >"$log" 2>&1 </dev/null || {
      tail -n 20 "$log" >&2
      say "pip could not install $2 into $1; all of it is in $log"
      return 1
    }
    echo "$wanted_hash" >"$installed"
  fi
  # The checkout's client is importable there, as it is, without being installed.
  if [ "${3:-client}" = client ]; then
    for site in "$1"/lib/python3*/site-packages; do
      printf '%s\n' "$PWD/client" >"$site/raylet_checkout.pth"
    done
  fi
}

mkdir -p build
install_packages deploy/packages.txt
[ "${1:-}" = --packages ] && exit 0
environment .venv deploy/requirements.txt || exit 1
for option in "$@"; do
  case "$option" in
    --fuzz) install_packages deploy/packages-fuzz.txt ;;
    --tests)
      environment .venv deploy/requirements-tests.txt || exit 1
      environment .venv-oldest deploy/requirements-oldest.txt || exit 1
      ;;
    --ray) environment .venv-ray deploy/requirements-ray.txt no-client || say "going on without the Ray wheel" ;;
    *) fail "unknown option $option: expected --packages, --fuzz, --tests or --ray" ;;
  esac
done
