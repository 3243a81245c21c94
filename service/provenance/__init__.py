"""Content Credentials: who may sign, what is said, and what a file of anybody's says.

authority      the installation's own CA and certificate, or the operator's
manifest       what a video says of itself
signing        one file: sign, read back
__main__       the signer, a process that holds the key and decodes nothing of strangers
reading        what a file says, found out in a child process with limits
reading_child  that child
verdict        its findings as one of four words
"""
