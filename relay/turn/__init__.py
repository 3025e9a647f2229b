"""The TURN server (coturn) beside this node: its configuration, its secrets, its process.

The control plane's snapshot says what it has to know; everything that it needs to serve lies in files on this machine.
"""
