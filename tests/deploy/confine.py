"""Run a command under restrictions of a unit, as far as the kernel offers them to a test without systemd.

    confine.py folders WRITABLE[:WRITABLE...] COMMAND...    as root: ProtectSystem=strict, PrivateTmp
    confine.py calls SETTING yes|no COMMAND...              SystemCallFilter; yes: MemoryDenyWriteExecute

SETTING is the values of SystemCallFilter, joined by ";". A call that it does not allow fails with EPERM.
"""

from __future__ import annotations

import ctypes
import os
import subprocess
import sys
from collections.abc import Iterator

_NEW_MOUNTS = 0x20000
"""Linux, <sched.h>: CLONE_NEWNS."""
_SET_MDWE, _REFUSE_EXEC_GAIN = 65, 1
"""Linux, <sys/prctl.h>: PR_SET_MDWE, PR_MDWE_REFUSE_EXEC_GAIN (since 6.3)."""
_ALLOW, _EPERM = 0x7FFF0000, 0x00050001
"""libseccomp, <seccomp.h>: SCMP_ACT_ALLOW, SCMP_ACT_ERRNO(EPERM)."""


def mount(*words: str) -> None:
    subprocess.run(["mount", *words], check=True)


def make_read_only(writable: list[str]) -> None:
    """Leave this process a file system that it can write to below some folders alone, and a /tmp of its own."""
    if ctypes.CDLL(None, use_errno=True).unshare(_NEW_MOUNTS):
        raise SystemExit("no mount namespace of one's own")
    mount("--make-rprivate", "/")
    for folder in writable:
        mount("--bind", folder, folder)
    with open("/proc/self/mountinfo") as lines:
        points = [line.split()[4] for line in lines]
    for point in dict.fromkeys(points):
        # a point that another mount hides cannot be named
        if point not in writable and not point.startswith(("/proc", "/sys", "/dev")) and os.path.ismount(point):
            mount("-o", "remount,bind,ro", point)
    mount("-t", "tmpfs", "-o", "mode=1777", "tmpfs", "/tmp")


def expand(name: str) -> Iterator[str]:
    """Yield the calls of a group such as `@resources`, as systemd names them."""
    if not name.startswith("@"):
        yield name
        return
    output = subprocess.run(["systemd-analyze", "syscall-filter", name], capture_output=True, text=True, check=True)
    for line in output.stdout.splitlines()[1:]:
        if (word := line.strip()) and not word.startswith("#"):
            yield from expand(word)


def filter_calls(settings: list[str]) -> None:
    """Let this process make the calls of a SystemCallFilter and no other."""
    allowed: set[str] = set(expand("@default"))
    for setting in settings:
        calls = {call for word in setting.removeprefix("~").split() for call in expand(word)}
        allowed = allowed - calls if setting.startswith("~") else allowed | calls
    library = ctypes.CDLL("libseccomp.so.2")
    library.seccomp_init.restype = ctypes.c_void_p
    context = ctypes.c_void_p(library.seccomp_init(ctypes.c_uint32(_EPERM)))
    for call in sorted(allowed):
        if (number := library.seccomp_syscall_resolve_name(call.encode())) >= 0:
            library.seccomp_rule_add(context, ctypes.c_uint32(_ALLOW), number, 0)
    if library.seccomp_load(context):
        raise SystemExit("the filter of system calls was not accepted")


def main() -> None:
    kind, *words = sys.argv[1:]
    if kind == "folders":
        make_read_only(words[0].split(":"))
        os.execvp(words[1], words[1:])
    settings, memory, *command = words
    if memory == "yes" and ctypes.CDLL(None).prctl(_SET_MDWE, _REFUSE_EXEC_GAIN, 0, 0, 0):
        raise SystemExit("this kernel has no protection of memory that is written and executed")
    filter_calls(settings.split(";"))
    os.execvp(command[0], command)


if __name__ == "__main__":
    main()
