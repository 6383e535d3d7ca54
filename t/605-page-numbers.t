# The arithmetic of the status page, in node: histograms that are merged over
# minutes and gateways must say what one of all values would.

use strict;
use warnings;

use Test::More;

my $root = $ENV{HYBRID_ROOT} || '.';

plan(skip_all => 'no node: tools/deps test installs it')
    if system('node --version > /dev/null 2>&1') != 0;

my $out = `node $root/t/lib/page_numbers.js $root/page/numbers.js 2>&1`;
my $status = $?;
my ($count) = $out =~ /^1\.\.(\d+)$/m;
my @results = $out =~ /^((?:not )?ok \d+ - .*)$/mg;

is($status, 0, 'node ends well') or diag($out);
is(scalar @results, $count // -1, 'all steps were taken');

for my $line (@results) {
    $line =~ /^(not )?ok \d+ - (.*)$/;
    ok(!$1, $2);
}

done_testing();
