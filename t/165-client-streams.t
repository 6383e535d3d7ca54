# The official npm clients "ollama" and "openai" and streams that go wrong or
# are late: one that breaks is an error to them, heartbeats are nothing.

use strict;
use warnings;

use lib 't/lib';
use Hybrid;
use HybridOdd;
use HybridStream;
use Test::More;

my $modules = ($ENV{HYBRID_BUILD} || "$Hybrid::ROOT/build")
    . '/clients/node_modules';

plan(skip_all => 'no npm clients: tools/deps test installs them')
    if !-d "$modules/ollama" || !-d "$modules/openai";

my $t = Hybrid->new;
my $forge = $t->backend('forge', models => 'slow,broken', tokens => 60);
my $odd = HybridOdd->new($t, 'odd');
my $alice = $t->token('alice');

# where node finds the packages: ES modules do not look at NODE_PATH

my $home = "$t->{dir}/clients";
mkdir $home or die "$home: $!";
symlink $modules, "$home/node_modules" or die "symlink: $!";
$t->file('clients/streams.mjs',
         Hybrid::_slurp("$Hybrid::ROOT/t/clients/streams.mjs"));

my $location = 'hybrid_access token; include %PROXY%;';

$t->start(http => <<"END");
    hybrid_client alice { $alice->{line} models *; }
    hybrid_backend forge { pass http://$forge->{addr}; probe off; }
    hybrid_backend odd   { pass http://$odd->{addr}; probe off; }
    hybrid_route odd odd;
    hybrid_route * forge;
    server { listen 127.0.0.1:%PORT%; location / { $location } }
    server { listen 127.0.0.1:%PORT2%;
             location / { hybrid_heartbeat 200ms; $location } }
    server { listen 127.0.0.1:%PORT3%;
             location / { hybrid_heartbeat 200ms; hybrid_barrier 2k 300ms;
                          $location } }
END


# its TAP becomes a subtest of ours
sub clients {
    my ($what, $kind, $port, $model) = @_;
    local @ENV{qw(HYBRID_ID HYBRID_SECRET)} = @$alice{qw(id secret)};
    delete local @ENV{qw(HTTP_PROXY HTTPS_PROXY http_proxy https_proxy)};

    my $url = 'http://127.0.0.1:' . $t->port($port);
    my $out = `cd $home && timeout 60 node streams.mjs $kind $url $model 2>&1`;
    my $status = $?;

    subtest $what => sub {
        my ($count) = $out =~ /^1\.\.(\d+)$/m;
        my @results = $out =~ /^((?:not )?ok \d+ - .*)$/mg;
        is $status, 0, 'node ends well';
        is scalar @results, $count // -1, 'all steps were taken';

        for my $line (@results) {
            $line =~ /^(not )?ok \d+ - (.*)$/;
            ok !$1, $2;
        }

        diag $out if $status || $out =~ /^not ok/m;
    };
}


# each of the four waits for itself, and nothing is said for so long
for my $port (1 .. 3) {
    $forge->behave(delay_ms => 900, all => 1);
    clients("a late answer, server $port", 'whole', $port, 'slow');

    $forge->behave(close_after_tokens => 40, all => 1);
    clients("one that breaks off, server $port", 'broken', $port, 'broken');

    $forge->behave(delay_ms => 900, close_after_tokens => 40, all => 1);
    clients("both, server $port", 'broken', $port, 'broken');
}

# there is no answer: what was padded is an error nevertheless
for my $port (2, 3) {
    $odd->steps({ pause => 0.9 },
                { send => "HTTP/1.1 500 X\r\nContent-Type: application/json"
                  . "\r\n\r\n{\"error\":{\"message\":\"no\"}}\n" });
    clients("an error after heartbeats, server $port", 'error', $port, 'odd');

    $odd->steps({ pause => 0.9, send => '' });
    clients("no answer after heartbeats, server $port", 'error', $port,
            'odd');
}

$t->done;
