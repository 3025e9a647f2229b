"""Sockets, SRTP and the borrowed names of other libraries."""
