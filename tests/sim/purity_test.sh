#!/bin/sh
# Says no if the binary with all cores in it needs any library but the language's own.
set -eu
needed=$(ldd tests/sim/sim | awk '{print $1}' | sed 's|.*/||')
echo "$needed"
echo "$needed" | grep -q '^libstdc++\.so' || { echo "ldd told nothing that makes sense"; exit 1; }
for library in $needed; do
  case "$library" in
    linux-vdso.so.*|ld-linux*.so.*|libc.so.*|libm.so.*|libgcc_s.so.*|libstdc++.so.*|libpthread.so.*) ;;
    *) echo "the cores must not need $library"; exit 1 ;;
  esac
done
# Header-only I/O would not show as a library: no symbol of a socket or a file may be wanted by our own code.
if nm -u -C tests/sim/sim | grep -E '^ +U (socket|connect|open|openat|epoll_create1|pthread_create)(@|$)'; then
  echo "the cores must not open anything or start a thread"
  exit 1
fi
