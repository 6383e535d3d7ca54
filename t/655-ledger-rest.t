# The ledger where two things overlap, and where another location or another
# upstream goes on with a request: no second is counted twice, no try is
# forgotten, nothing of others is ours.

use strict;
use warnings;

use lib 't/lib';
use Hybrid;
use HybridOdd;
use HybridStream;
use Test::More;
use Time::HiRes 'sleep';

my $t = Hybrid->new;
my $odd = HybridOdd->new($t, 'odd');
my $plain = HybridOdd->new($t, 'plain');
my $forge = $t->backend('forge', models => 'again');
my $dead = $t->closed_port;
my $alice = $t->{as} = $t->token('alice');
my $rated = $t->token('rated');
my $log = Hybrid::_slurp("$Hybrid::ROOT/conf/hybrid_log.conf");

$t->start(http => <<"END");
    $log
    access_log ledger.json hybrid_json;
    hybrid_client alice { $alice->{line} models *; }
    hybrid_client rated { $rated->{line} models *; rate 60r/m burst=1;
                          queue 8 timeout=30s; }
    hybrid_backend forge { pass http://$forge->{addr}; probe off; }
    hybrid_backend odd   { pass http://$odd->{addr}; probe off; }
    hybrid_backend dead  { pass http://127.0.0.1:$dead; probe off; }
    hybrid_route again forge;
    hybrid_route odd   odd;
    hybrid_route gone  dead;

    server {
        listen 127.0.0.1:%PORT%;
        location / {
            hybrid_access token;
            include %PROXY%;
            error_page 502 = \@again;
        }
        location \@again { hybrid_access token; include %PROXY%; }
        location = /status  { hybrid_status json; }
        location = /metrics { hybrid_status prometheus; }
    }
    server {
        listen 127.0.0.1:%PORT2%;
        location / {
            hybrid_access token;
            include %PROXY%;
            error_page 502 = \@other;
        }
        location \@other { proxy_pass http://$plain->{addr}; }
    }
END

my $done = qq({"model":"m","response":"x","done":true,"eval_count":3,)
    . qq("prompt_eval_count":5,"eval_duration":30000000}\n);

# the line of the request that was made last
my $lines = 0;

sub ledger { return $t->log_line('ledger.json', ++$lines) }

sub series {
    my ($client, $backend) = @_;
    my ($s) = grep { $_->{client} eq $client && $_->{backend} eq $backend }
              @{$t->get('/status')->{json}{series}};
    $lines++;
    return $s;
}


# a client that waits for its limit while its body comes does one of the two
for my $n (1, 2) {
    my $body = '{"model":"odd","prompt":"x"}';
    my $s = $t->open;

    $odd->answer(200, $done, 'Content-Type' => 'application/x-ndjson');
    $s->send("POST /api/generate HTTP/1.1\r\nHost: gateway\r\n"
        . "Content-Length: " . length($body) . "\r\n"
        . $t->auth_lines($rated) . "\r\n" . substr $body, 0, 9);
    sleep 0.6;
    $s->send(substr $body, 9);
    like $s->read_until(qr/"done":true/), qr{^HTTP/1.1 200 }, "request $n";
    $s->close;

    my $r = ledger();
    my $what = "queue $r->{queue}, body $r->{body}, of $r->{total}";

    if ($n == 1) {
        is $r->{queue}, 0, $what;
        cmp_ok $r->{body}, '>=', 0.5, 'the body';

    } elsif (!$Hybrid::VALGRIND) {
        cmp_ok $r->{queue}, '>=', 0.05, $what;
        cmp_ok $r->{first_byte}, '>=', $r->{queue}, 'of the first byte, too';
    }

    cmp_ok $r->{queue} + $r->{body}, '<=', $r->{total} + 0.002, 'no more';
}

Hybrid::poll { series('rated', 'odd')->{requests}{ok} == 2 };
my $s = series('rated', 'odd');
is $s->{queue_seconds}{count}, 2, 'both are counted';
cmp_ok $s->{queue_seconds}{sum}, '>=', 0.05, 'and how long one waited'
    if !$Hybrid::VALGRIND;
cmp_ok $s->{body_milliseconds}, '>=', 500, 'and a body took';
is $s->{failed_tries_milliseconds}, 0, 'nothing failed';
cmp_ok $s->{queue_seconds}{sum} * 1000 + $s->{body_milliseconds}, '<=',
    $s->{request_duration_seconds}{sum} * 1000 + 4, 'not more than there was';


# tries before an internal redirect are tries of this request
$forge->behave(reset => 1, delay_ms => 400, times => 1);
my $r = stream($t, '/api/generate', { model => 'again', prompt => 'x' });
is $r->{status}, 200, 'another location';
$r = ledger();
is $r->{$_->[0]}, $_->[1], "again: $_->[0]" for [ outcome => 'ok' ],
    [ retries => 1 ], [ backend => 'forge' ];
cmp_ok $r->{failed}, '>=', 0.38, "failed: $r->{failed}";
cmp_ok $r->{first_byte}, '>=', $r->{failed}, 'of the first byte, too';
cmp_ok $r->{first_byte}, '<=', $r->{total} + 0.002, 'which came before all';

Hybrid::poll { (series('alice', 'forge') || {})->{requests} };
$s = series('alice', 'forge');
is $s->{retries}, 1, 'the try is counted';
cmp_ok $s->{failed_tries_milliseconds}, '>=', 380, 'and its time';
cmp_ok $s->{body_milliseconds}, '<', 380, 'as nothing else';

my $metrics = $t->get('/metrics')->{content};
$lines++;
my ($failed) = $metrics
    =~ /^ngx_hybrid_failed_tries_seconds_total\{.*backend="forge".*\} (.*)$/m;
cmp_ok $failed, '>=', 0.38, 'Prometheus: seconds';
cmp_ok $failed, '<', 60, 'not milliseconds';


# what another upstream takes is not the backend's
$plain->answer(200, '{}', 'Content-Type' => 'application/json');
is $t->post('/api/generate', { model => 'gone', prompt => 'x' },
    port => $t->port(2))->{status}, 200, 'an error_page of its own';
$r = ledger();
is $r->{$_->[0]}, $_->[1], "elsewhere: $_->[0]" for [ backend => 'dead' ],
    [ outcome => 'backend_error' ], [ connect => undef ],
    [ first_byte => undef ], [ ttft => undef ];

$t->expect_log(qr/connect\(\) failed/);
$t->done;
