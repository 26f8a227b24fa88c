"""Takes the power from the file system that a directory is on: cut_power.py DIRECTORY FLAG

EXT4_IOC_SHUTDOWN ends all writing at once. FLAG says what still gets to the disk before: 0 everything, 1 the file
system's own journal, 2 nothing. Needs root.
"""

import fcntl
import os
import struct
import sys

EXT4_IOC_SHUTDOWN = 0x8004587D

directory, flag = sys.argv[1:]
fcntl.ioctl(os.open(directory, os.O_RDONLY), EXT4_IOC_SHUTDOWN, struct.pack("I", int(flag)))
