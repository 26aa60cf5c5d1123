#!/usr/bin/perl
use strict;
use warnings;

print "Content-Type: text/plain\r\nContent-Length: 20\r\n\r\nHello from Hostler!\n";
