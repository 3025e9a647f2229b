"""The engine in this process: ICE-lite, DTLS-SRTP and raw RTP forwarding on one UDP port."""
