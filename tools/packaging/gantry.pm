# dh --with gantry: the step dh_gantry, before dependencies are written.
use strict;
use warnings;
use Debian::Debhelper::Dh_Lib;

insert_before('dh_gencontrol', 'dh_gantry');

1;
