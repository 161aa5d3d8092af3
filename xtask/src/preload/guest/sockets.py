"""A service that is started by its socket, and the client: what systemd promises must hold in both."""
import os
import socket
import sys

PATH = "/run/activated.socket"

if len(sys.argv) > 1:
    with socket.socket(socket.AF_UNIX) as client:
        client.connect(PATH)
        print(client.makefile().read().strip())
else:
    right = os.environ.get("LISTEN_FDS") == "1" and os.environ.get("LISTEN_PID") == str(os.getpid())
    with socket.socket(fileno=3) as listening:
        connection, _ = listening.accept()
        free = os.open("/dev/null", os.O_RDONLY)
        connection.sendall(f"activated {right} {listening.getsockname()} {free}\n".encode())
        connection.close()
