"""The commands that talk to a service, through `talkface_client`."""
