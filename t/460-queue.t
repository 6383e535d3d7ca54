# Waiting for a slot: whose turn it is, who may wait, and for how long.  One
# request keeps the slot until all others are in the line, so that the order
# does not depend on time.

use strict;
use warnings;

use lib 't/lib';
use Hybrid;
use Test::More;
use Time::HiRes 'time';

my $t = Hybrid->new;
my ($forge, $anvil) = map { $t->backend($_, models => 'm,n', tokens => 2) }
                          qw(forge anvil);
my %client = map { $_ => $t->token($_) }
             qw(holder batch alice bob heavy light plain short),
             map { "c$_" } 0 .. 9;
$t->{as} = $client{holder};

my %limit = (holder => '', plain => '', batch => 'queue 50 timeout=60s;',
    alice => 'queue 8 timeout=60s;', bob => 'queue 2 timeout=60s;',
    heavy => 'queue 100 timeout=60s; weight 3;',
    light => 'queue 100 timeout=60s; weight 1;',
    short => 'queue 8 timeout=300ms;',
    map { ("c$_" => 'queue 300 timeout=60s;') } 0 .. 9);

my $clients = join '', map {
    "hybrid_client $_ { $client{$_}{line} models *; $limit{$_} }\n"
} sort keys %client;

my @status = (server => 'location = /status { hybrid_status json; }
                         location = /metrics { hybrid_status prometheus; }');

sub conf {
    my ($routes, $forge_more, $anvil_more) = @_;
    return (@status, http => <<"END");
    hybrid_zone 8m;
    $clients
    upstream forge { zone forge 64k; server $forge->{addr} max_fails=0; }
    upstream anvil { zone anvil 64k; server $anvil->{addr} max_fails=0; }
    hybrid_backend forge { pass http://forge; @{[$forge_more
                                                 || 'probe off; slots 1;']} }
    hybrid_backend anvil { pass http://anvil; @{[$anvil_more
                                                 || 'probe off; slots 1;']} }
    $routes
END
}

# a request that is not answered yet: the socket
sub held {
    my ($as, %o) = @_;
    my $body = Hybrid::encode({ model => $o{model} || 'm', stream => \0,
                                prompt => 'x' x ($o{size} || 1) });
    my $s = $t->open;
    $s->{as} = $as;
    $s->send("POST /api/generate HTTP/1.1\r\nHost: x\r\nConnection: close\r\n"
             . 'Content-Length: ' . length($body) . "\r\n"
             . $t->auth_lines($client{$as}) . "\r\n$body");
    return $s;
}

sub soon(&$) {
    my ($code, $name) = @_;
    ok scalar(&poll($code)), $name;
}

sub backend {
    my ($name) = @_;
    my $list = $t->get('/status')->{json}{backends};
    return (grep { $_->{name} eq $name } @$list)[0];
}

sub waiting { return backend($_[0] || 'forge')->{waiting} }

# the slot is taken until this is closed
sub hold {
    my (@backends) = @_;
    my @held;
    for my $b (@backends) {
        $b->behave(hang_before_header => \1, times => 1);
        push @held, held('holder', model => $b == $anvil ? 'n' : 'm');
        soon { $b->stats->{active} == 1 } "$b->{name} is busy";
    }
    return @held;
}

# requests that are in the line, in this order
sub line {
    my ($before, @as) = @_;
    my @line;
    for my $as (@as) {
        push @line, held($as);
        poll { waiting() == $before + @line } or return fail "$as waits";
    }
    return @line;
}

sub answers {
    return map { my $text = $_->read_until // ''; $_->close;
                 $text =~ /^HTTP\/1.1 (\d+)/ ? $1 : '-' } @_;
}

# whom a backend has served, the one that held it not counted
sub served {
    my ($b) = @_;
    return grep { $_ ne 'holder' }
           map { $_->{header}{'x-hybrid-client'} // '-' } $b->requests;
}

sub refused {
    my ($s, $status, $reason, $name) = @_;
    my $text = $s->read_until // '';
    $s->close;
    like $text, qr/^HTTP\/1.1 $status .*^X-Hybrid-Reason: $reason\r$/ms, $name;
    return $text;
}


subtest 'whose turn it is' => sub {
    $t->start(workers => 3, conf('hybrid_route * forge;'));

    my ($held) = hold($forge);
    my @line = line(0, ('batch') x 12, ('alice') x 3);
    is backend('forge')->{in_flight}, 1, 'one is served';
    like $t->get('/metrics')->{content},
         qr/^ngx_hybrid_backend_waiting\{backend="forge"\}\ 15$/m, 'a metric';
    $held->close;
    is join(' ', answers(@line)), join(' ', (200) x 15), 'all are served';
    like join(' ', served($forge)),
         qr/^(?:batch )?alice batch alice batch alice(?: batch)+$/, 'in turn';
    is waiting(), 0, 'nobody waits';
    $forge->clear;

    # the free slot is that of those in front
    ($held) = hold($forge);
    @line = line(0, 'alice');
    refused(held('plain'), 503, 'unavailable', 'without a queue');
    $held->close;
    is join(' ', answers(@line)), '200', 'who was in front';
    is_deeply [answers(held('plain'))], [200], 'then it is free for all';

    # a long prompt is paid for
    $forge->clear;
    ($held) = hold($forge);
    @line = (held('alice', size => 40_000));
    poll { waiting() == 1 };
    push @line, line(1, 'alice', ('batch') x 20);
    $held->close;
    answers(@line);
    like join(' ', served($forge)), qr/^alice (?:batch ){15,20}/,
         'shares are of tokens';
    $t->stop;
};


subtest 'weights' => sub {
    $forge->clear;
    $t->start(workers => 2, conf('hybrid_route * forge;'));
    my ($held) = hold($forge);
    my @line = map { held($_) } map { ('light', 'heavy', 'heavy') } 1 .. 45;
    soon { waiting() == @line } 'they wait';
    $held->close;
    is scalar(grep { $_ == 200 } answers(@line)), @line, 'all are served';

    # as long as both wait
    my %n;
    $n{$_}++ for (served($forge))[0 .. 99];
    cmp_ok abs($n{heavy} / $n{light} / 3 - 1), '<=', 0.05,
           "$n{heavy} : $n{light} is 3 : 1";
    $t->stop;
};


subtest 'equals, of whom one sends a hundred times as much' => sub {
    my @load = map { 2 * $_ } 100, 70, 40, 20, 10, 5, 3, 2, 1, 1;
    $forge->clear;
    $t->start(workers => 2, conf('hybrid_route * forge;'));
    my ($held) = hold($forge);
    my @line;
    for my $i (0 .. 9) {
        push @line, map { held("c$i") } 1 .. $load[$i];
        poll { waiting() == @line } or return fail "c$i waits";
    }
    $held->close;
    poll { served($forge) >= 20 };

    # as long as all wait
    my %n = map { ("c$_" => 0) } 0 .. 9;
    $n{$_}++ for (served($forge))[0 .. 19];
    my ($sum, $squares) = (0, 0);
    for (values %n) { $sum += $_; $squares += $_ ** 2 }
    my $jain = $sum ** 2 / (10 * $squares);
    cmp_ok $jain, '>=', 0.95, "Jain's index is $jain";
    $_->close for @line;
    soon { waiting() == 0 } 'the others have left';
    $t->stop;
};


subtest 'who may wait' => sub {
    $forge->clear;
    $t->start(workers => 2, conf('hybrid_route * forge;'));
    my ($held) = hold($forge);
    my @line = line(0, 'bob', 'bob');
    my $text = refused(held('bob'), 429, 'queue_full', 'no more than that');
    like $text, qr/^Retry-After: \d+\r$/m, 'Retry-After';
    push @line, line(2, 'alice');

    # who leaves makes room
    (shift @line)->close;
    soon { waiting() == 2 } 'one has left';
    push @line, line(2, 'bob');
    $held->close;
    is join(' ', answers(@line)), '200 200 200', 'the others are served';
    is join(' ', sort(served($forge))), 'alice bob bob', 'and it was not';

    # for how long
    my $start = time;
    ($held) = hold($forge);
    my $late = held('short');
    refused($late, 503, 'busy', 'too late');
    cmp_ok time - $start, '>=', 0.29, 'it has waited';
    is waiting(), 0, 'it has left';
    is backend('forge')->{passed_over}{queue}, 2, 'counted';
    $held->close;
    $t->stop;
};


subtest 'the measured time' => sub {
    $forge->clear;
    $t->start(conf('hybrid_route m forge anvil; hybrid_route n forge;'));
    $forge->behave(delay_ms => 900, times => 1);
    is $t->post('/api/generate', { model => 'm', stream => \0 })->{status},
       200, 'measured';
    my $service = backend('forge')->{service_seconds};
    cmp_ok $service, '>=', 0.89, "it takes $service s";
    like $t->get('/metrics')->{content},
         qr/^ngx_hybrid_backend_service_seconds\{backend="forge"\}\ [\d.]+$/m,
         'a metric';

    my ($held) = hold($forge);
    my @line = map { held('batch', model => 'n') } 1 .. 3;
    soon { waiting() == 3 } 'some wait';

    # one of the others is in front: longer than 300 ms
    my $r = $t->post('/api/generate', { model => 'm', stream => \0 },
                     as => $client{short});
    is "$r->{status} $r->{headers}{'x-hybrid-backend'} "
       . $r->{headers}{'x-hybrid-fallback'}, '200 anvil queue',
       'the next group at once';
    my $text = refused(held('short', model => 'n'), 503, 'busy', 'no other');
    like $text, qr/^Retry-After: [2-9]\r$/m, 'Retry-After';
    is $t->log('error.log') =~ /it would have to wait longer/, 1, 'logged';
    $held->close;
    is join(' ', answers(@line)), '200 200 200', 'the others are served';
    $t->stop;
};


subtest 'groups' => sub {
    $_->clear for $forge, $anvil;
    $t->start(workers => 2, conf('hybrid_route m forge,anvil;
                                  hybrid_route n anvil;'));

    # the first of equals that has one
    my ($held, $other) = hold($forge, $anvil);
    my @line = line(0, 'alice', 'alice');
    is waiting('anvil'), 2, 'for both';
    $other->close;
    is join(' ', answers(@line)), '200 200', 'they are served';
    is scalar(served($anvil)), 2, 'by the one that was free';
    is waiting(), 0, 'and wait for none';
    $held->close;
    $t->stop;

    # a backend that dies takes nobody with it
    $_->clear for $forge, $anvil;
    $t->start(workers => 2, conf('hybrid_route m forge anvil;
        hybrid_route n anvil;', 'slots 1; probe interval=200ms timeout=100ms
        fails=1 passes=1;', 'probe off; slots 2;'));
    soon { backend('forge')->{paths}[0]{state} eq 'up' } 'it is there';
    ($held) = hold($forge);
    @line = line(0, 'alice', 'alice');
    $forge->behave(status => 500, probes => 'only');
    is join(' ', answers(@line)), '200 200', 'the next group';
    like $line[0]{buffer}, qr/^X-Hybrid-Backend: anvil\r$/m, 'it was that';
    like $line[0]{buffer}, qr/^X-Hybrid-Fallback: no_live\r$/m, 'why';
    $held->close;
    $t->stop;

    # one that comes back is waited for, too
    $_->clear for $forge, $anvil;
    $anvil->behave(status => 500, probes => 'only');
    $t->start(workers => 2, conf('hybrid_route m forge,anvil;', '',
        'slots 1; probe interval=200ms timeout=100ms fails=1 passes=1;'));
    soon { backend('anvil')->{paths}[0]{state} eq 'down' } 'one is away';
    ($held) = hold($forge);
    @line = line(0, 'alice', 'alice');
    is waiting('anvil'), 0, 'it is not waited for';
    $anvil->clear;
    is join(' ', answers(@line)), '200 200', 'it is back, they are served';
    is scalar(served($anvil)), 2, 'by it';
    $held->close;
    $t->stop;
};


subtest 'workers' => sub {
    $_->clear for $forge, $anvil;
    $t->start(workers => 2, conf('hybrid_route * forge;'));

    my ($held) = hold($forge);
    my @line = line(0, ('batch') x 10);

    # one that is killed leaves nobody in front
    my ($victim) = Hybrid::_workers($t->{pid});
    kill KILL => $victim;
    $t->expect_log(qr/\[alert\].*exited on signal 9/);
    soon { my @now = Hybrid::_workers($t->{pid});
           @now == 2 && !grep { $_ == $victim } @now } 'killed';
    my @late = map { held('alice') } 1 .. 2;
    $held->close;
    is join(' ', answers(@late)), '200 200', 'others are served';
    my @codes = answers(@line);
    is scalar(grep { $_ eq '200' || $_ eq '-' } @codes), 10,
       "its own are gone: @codes";
    soon { waiting() == 0 } 'nobody waits';
    is backend('forge')->{in_flight}, 0, 'no slot is lost';

    # a reload changes nothing for those that wait
    $forge->clear;
    ($held) = hold($forge);
    @line = line(0, ('batch') x 4);
    ok $t->reload, 'reload';
    push @line, line(4, 'alice');
    $held->close;
    is join(' ', answers(@line)), '200 200 200 200 200', 'all are served';
    like join(' ', served($forge)), qr/^(?:batch )?alice(?: batch)+$/,
         'in turn';
    $t->stop;
};

$t->done;
