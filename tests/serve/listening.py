"""Run a server in a separate network namespace, and try all its ports from the address of "another machine".

`unshare -rn python -m tests.serve.listening CHECKPOINT FOLDER`; ends with 0 if the service answers, on loopback alone,
and of what listens beyond loopback nothing that speaks gRPC (Ray) obeys without Ray's token.
"""

import subprocess
import sys
from pathlib import Path

from tests.serve.processes import _wait, served

OUTSIDE = "10.99.0.1"
STATE_LISTEN = "0A"


def listening() -> set[tuple[str, int]]:
    """(address, port) of every listening TCP socket of this namespace; "any" for all addresses."""
    found: set[tuple[str, int]] = set()
    for file in ("tcp", "tcp6"):
        for line in Path("/proc/net", file).read_text().splitlines()[1:]:
            local, state = line.split()[1], line.split()[3]
            if state == STATE_LISTEN:
                address, _, port = local.partition(":")
                found.add((_readable(address), int(port, 16)))
    return found


def _readable(address: str) -> str:
    if not address.strip("0"):
        return "any"
    raw = bytes.fromhex(address[-8:])[::-1]
    inside = len(address) == 32 and address.endswith("01000000")
    return "loopback" if raw[0] == 127 or inside else ".".join(map(str, raw))


METHODS = (
    "/ray.rpc.NodeInfoGcsService/GetAllNodeInfo",  # of Ray's head
    "/ray.rpc.NodeManagerService/GetNodeStats",  # of a node
    "/ray.rpc.CoreWorkerService/GetCoreWorkerStats",  # of a worker
    "/ray.serve.ASGIService/HandleRequest",  # of a replica of Ray Serve, which unpickles what it is sent
)


def obeys(port: int) -> set[str]:
    """Return how a Ray process reacts to each call of a client without Ray's token."""
    import grpc

    found: set[str] = set()
    with grpc.insecure_channel(f"{OUTSIDE}:{port}") as channel:
        for method in METHODS:
            try:
                channel.unary_unary(method, lambda raw: raw, lambda raw: raw)(b"", timeout=5)
                found.add(f"answered {method}")
            except grpc.RpcError as error:
                found.add(error.code().name)
    return found


def main(checkpoint: Path, folder: Path) -> int:
    # An address that is none of loopback's, of the only device that there is: what is bound to all answers there.
    for command in ("ip link set lo up", f"ip addr add {OUTSIDE}/32 dev lo"):
        subprocess.run(command.split(), check=True)
    with served(checkpoint, folder) as running:
        _wait(running)
        service = int(running.address.rpartition(":")[2])
        found = listening()
        assert ("loopback", service) in found, found
        beyond = sorted(port for address, port in found if address != "loopback")
        obeyed = {port: obeys(port) for port in beyond}
    print("on loopback:", sorted(port for address, port in found if address == "loopback"))
    print("beyond:", obeyed)
    assert service not in beyond
    closed = {"UNAUTHENTICATED", "UNAVAILABLE", "UNIMPLEMENTED"}
    return 0 if all(what <= closed and what != {"UNIMPLEMENTED"} for what in obeyed.values()) else 1


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1]), Path(sys.argv[2])))
