# What may happen to who waits, for a limit or for a machine: as many wait as
# "queue" says, who is revoked meanwhile is refused, and a reload that makes
# more room is felt at once.

use strict;
use warnings;

use lib 't/lib';
use Hybrid;
use HybridRedis ();
use Test::More;
use Time::HiRes 'sleep';

my $t = Hybrid->new;
my ($forge, $anvil) = map { $t->backend($_, models => 'm', tokens => 2) }
    qw(forge anvil);
my $redis = HybridRedis::redis(name => 'redis');
my $tool = ($ENV{HYBRID_ROOT} || '.') . '/tools/hybrid-token';

my %limits = (
    holder => '',
    limited => 'rate 6r/m; queue 8 timeout=15s;',
    queued => 'queue 8 timeout=60s;',
    both => 'rate 1r/m burst=3; queue 2 timeout=60s;',
    patient => 'queue 8 timeout=60s;',
);
my %as = map { $_ => $t->token($_) } keys %limits;
my $clients = join '', map { "hybrid_client $_ { $as{$_}{line} models *;"
    . " verbs inference admin; $limits{$_} }\n" } sort keys %limits;

$t->{as} = $as{holder};

sub conf {
    my (%o) = @_;
    my $slots = $o{slots} // 1;
    my $route = $o{route} // 'forge';
    return (server => 'location /admin/ { hybrid_access token; hybrid_admin; }'
        . ' location = /status { hybrid_status json; }', http => <<"END");
    hybrid_zone 8m;
    hybrid_redis 127.0.0.1:$redis->{port} timeout=2s;
    $clients
    hybrid_backend forge { pass http://$forge->{addr}; probe off;
        slots $slots; }
    hybrid_backend anvil { pass http://$anvil->{addr}; probe off; slots 1; }
    hybrid_route * $route;
END
}

sub begin {
    my (%o) = @_;
    $t->start(workers => 1, conf(%o));
    return ok poll { $t->get('/status')->{json}{redis}{available} },
        'Redis is there';
}

sub end {
    my (@open) = @_;
    $_->close for @open;
    ok poll { !grep { $_->stats->{active} } $forge, $anvil }, 'all is over';
    $t->stop;
    $_->clear for $forge, $anvil;
    return;
}

sub send_one {
    my ($client) = @_;
    my $body = Hybrid::encode({ model => 'm', stream => \0, prompt => 'x' });
    my $s = $t->open;
    $s->send("POST /api/generate HTTP/1.1\r\nHost: x\r\nConnection: close\r\n"
        . 'Content-Length: ' . length($body) . "\r\n"
        . $t->auth_lines($as{$client}) . "\r\n$body");
    return $s;
}

sub answer {
    my ($s) = @_;
    my $text = $s->read_until // '';
    $s->close;
    my ($status) = $text =~ /^HTTP\S+ (\d+)/;
    my ($reason) = $text =~ /^X-Hybrid-Reason: (\S+)/m;
    return join ' ', grep { defined } $status, $reason;
}

# it has the only slot, and keeps it
sub hold {
    my ($backend) = @_;
    $backend->behave(hang_before_header => \1, times => 1);
    my $s = send_one('holder');
    ok poll { $backend->stats->{active} == 1 }, "$backend->{name} is busy";
    return $s;
}

sub shown {
    my ($kind, $name) = @_;
    my ($row) = grep { $_->{name} eq $name }
        @{ $t->get('/status')->{json}{$kind} };
    return $row;
}

sub waits {
    my ($kind, $name, $n) = @_;
    local $Test::Builder::Level = $Test::Builder::Level + 1;
    return ok(poll { shown($kind, $name)->{waiting} == $n },
        "$n wait for $name") || diag(explain(shown($kind, $name)));
}

# known to the gateway when a new request of the client's is refused
sub revoke {
    my ($client) = @_;
    system("sh $tool revoke client $client --redis 127.0.0.1:$redis->{port}"
        . ' >/dev/null 2>&1');
    local $Test::Builder::Level = $Test::Builder::Level + 1;
    return ok(poll {
        $t->get('/api/tags', as => $as{$client})->{status} == 401 },
        "$client is revoked");
}


subtest 'as many as may, for limits and machines together' => sub {
    begin();
    my $held = hold($forge);
    my @all = map { send_one('both') } 1, 2;
    waits(clients => 'both', 2);
    is shown(backends => 'forge')->{waiting}, 2, 'for the machine';

    # the burst allows a third one, and then it would wait for its rate

    is answer(send_one('both')), '429 queue_full', 'no third for the machine';
    is answer(send_one('both')), '429 rate_limited', 'none for the rate';
    is shown(clients => 'both')->{waiting}, 2, 'still two';

    $_->close for @all;
    waits(clients => 'both', 0);
    end($held);
};


subtest 'revoked while it waits for its rate' => sub {
    begin();
    is answer(send_one('limited')), '200', 'the first one';
    my $s = send_one('limited');
    waits(clients => 'limited', 1);
    revoke('limited');
    is answer($s), '401 unauthenticated', 'the one that waited, too';
    is scalar($forge->requests), 1, 'the machine has seen the first only';
    end();
};


subtest 'revoked while it waits for a machine that goes' => sub {
    begin(route => 'forge anvil');
    my @held = map { hold($_) } $forge, $anvil;
    my $s = send_one('queued');
    waits(backends => 'forge', 1);
    revoke('queued');

    $held[1]->close;
    ok poll { $anvil->stats->{active} == 0 }, 'the other one is free';
    is $t->post('/admin/levers', { backend => 'forge', state => 'drain' })
        ->{status}, 200, 'FORGE is drained';
    is answer($s), '401 unauthenticated', 'nobody else serves it';
    is shown(backends => 'anvil')->{in_flight}, 0, 'nor is its slot taken';
    $t->post('/admin/levers', { backend => 'forge', state => 'enable' });
    end($held[0]);
};


subtest 'a reload with more slots' => sub {
    begin();
    my $held = hold($forge);
    my @all = map { send_one('patient') } 1, 2;
    waits(backends => 'forge', 2);
    ok $t->reload(conf(slots => 4)), 'reloaded';
    is join(', ', map { answer($_) } @all), '200, 200', 'they are served';
    ok poll { answer(send_one('holder')) eq '200' }, 'others, too';
    end($held);
};

$t->expect_log(qr/redis|revo[ck]|authentication failures/);
$t->done;
