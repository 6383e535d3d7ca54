# A backend that dies in the middle: who has not begun to be answered is
# answered by the next candidate, who has begun sees that the answer broke.

use strict;
use warnings;

use lib 't/lib';
use HybridRedis;
use Test::More;
use Time::HiRes 'sleep';

my $client = client_block('lightrag', '');

sub pair {
    my (%o) = @_;
    my $forge = backend(name => "forge$o{name}", args => $o{args});
    my $anvil = backend(name => "anvil$o{name}");

    my $gw = gateway(workers => 2, http => "hybrid_zone 2m;\n$client->{conf}"
        . "upstream forge { zone forge 64k;"
        . " server 127.0.0.1:$forge->{port}; keepalive 8; }\n"
        . "upstream anvil { zone anvil 64k;"
        . " server 127.0.0.1:$anvil->{port}; keepalive 8; }\n"
        . "hybrid_backend forge { pass http://forge; models *; }\n"
        . "hybrid_backend anvil { pass http://anvil; models *; }\n"
        . "hybrid_route llama3:8b forge;\n"
        . "hybrid_route * forge anvil;\n");

    return ($gw, $forge, $anvil);
}

sub tagged {
    my ($rows, $tag) = @_;
    return [ grep { $_->{tag} eq $tag } @$rows ];
}

# of all series of this client
sub counted {
    my ($gw, $outcome) = @_;
    my $n = 0;
    $n += $_->{requests}{$outcome} // $_->{$outcome}
        for grep { $_->{client} eq 'lightrag' } @{ $gw->status->{series} };
    return $n;
}

my @expected = (qr/\[error\].*(?:prematurely closed|Connection refused|reset)/,
    qr/\[error\].*no live upstreams/,
    qr/\[error\].*has broken off its stream/,
    qr/\[warn\].*upstream server temporarily/);


subtest 'killed while it answers' => sub {

    # 300 ms before the first token, then 40 of them in 2 s

    my ($gw, $forge, $anvil) = pair(name => 1,
        args => { 'prompt-ms' => 300, 'token-ms' => 50, tokens => 40 });

    my $load = load(rate => 80, request => sub {
        return $_[0] % 2
            ? ($gw, post($client, stream => 1), 'stream')
            : ($gw, post($client, path => '/api/embed',
                body => '{"model":"bge-m3","input":"hello"}'), 'plain') });
    sleep 2;
    my $at = now();
    ok($forge->stop('KILL'), 'FORGE is killed');
    sleep 2.5;
    my $rows = $load->stop;

    my %n = %{ numbers($rows) };
    is_deeply([ sort keys %n ], [ 200, '200 incomplete' ],
        'answered, or broken') or diag(explain(\%n));

    my $plain = tagged($rows, 'plain');
    is(scalar(grep { !$_->{complete} } @$plain), 0,
        'all that had not begun are answered');

    # who was waiting at that time was answered by the other; some answers of
    # FORGE may have been on their way

    my @waiting = grep { $_->{start} < $at - 0.05 && $_->{end} > $at
                         && ($_->{backend} eq 'anvil'
                             || $_->{end} > $at + 0.1) } @$plain;
    cmp_ok(scalar @waiting, '>', 2, @waiting . ' were waiting for FORGE');
    is(scalar(grep { $_->{backend} ne 'anvil' } @waiting), 0, 'ANVIL has them');
    is(scalar(grep { !$_->{fallback} } @waiting), 0, 'and says so');

    my @later = grep { $_->{start} > $at } @$rows;
    is(scalar(grep { $_->{backend} ne 'anvil' } @later), 0, 'later ones too');
    is(scalar(grep { !$_->{complete} } @later), 0, 'whole');
    my ($longest) = sort { $b <=> $a } map { $_->{time} } @later;
    cmp_ok($longest, '<', 1.5, sprintf 'at once: %.2f s at most', $longest);

    # a stream had begun when its first byte had come

    my $streams = tagged($rows, 'stream');
    my @begun = grep { $_->{first} && $_->{first} < $at - 0.05
        && $_->{end} > $at } @$streams;
    cmp_ok(scalar @begun, '>', 10, @begun . ' streams had begun');
    is(scalar(grep { $_->{complete} } @begun), 0,
        'none of them has a clean end');
    is(scalar(grep { $_->{backend} ne 'forge' } @begun), 0, 'from FORGE');

    my @unbegun = grep { $_->{start} < $at - 0.05 && $_->{first} > $at }
        @$streams;
    my @moved = grep { $_->{backend} eq 'anvil' } @unbegun;
    cmp_ok(scalar @moved, '>', 2, @moved . ' streams had not begun');
    is(scalar(grep { !$_->{complete} } @moved), 0, 'ANVIL answers them');
    is(scalar(grep { $_->{complete} && $_->{backend} eq 'forge' } @unbegun),
        0, 'FORGE none');

    my $broken = $n{'200 incomplete'};
    ok(wait_until(sub { counted($gw, 'broken') == $broken }, 3),
        "$broken are counted as broken") or diag(counted($gw, 'broken'));
    is(counted($gw, 'ok'), $n{200}, 'the others as answered');
    my $fallbacks = grep { $_->{fallback} } @$rows;
    is(counted($gw, 'fallbacks'), $fallbacks, "$fallbacks as fallbacks");

    log_is_clean($gw, @expected);
    ok($gw->stop, 'ended');
};


# one answer that is cut, and what the client sees of it
subtest 'every way to break' => sub {
    my ($gw, $forge, $anvil) = pair(name => 2, args => { tokens => 12 });

    my @ways = (
        [ 'a stream, closed', { close_after_tokens => 3 }, 1 ],
        [ 'a stream, reset', { close_after_tokens => 3, reset => \1 }, 1 ],
        [ 'half of an answer, closed', { close_after_tokens => 1 }, 0 ],
        [ 'half of an answer, reset', { close_after_tokens => 1,
            reset => \1 }, 0 ],
    );
    my $broken = 0;

    for my $path ('/api/chat', '/v1/chat/completions', '/v1/messages') {
        for my $way (@ways) {
            my ($what, $fault, $stream) = @$way;
            $forge->mock('behave', { %$fault, times => 1 });
            my $answer = raw_http($gw->{port}, post($client, path => $path,
                stream => $stream));

            # a reset may come before what was sent is passed on

            next if $fault->{reset} && ($answer->{headers}
                {'x-hybrid-backend'} // '') eq 'anvil';

            $broken++;
            is($answer->{status}, 200, "$path, $what: begun");
            is($answer->{headers}{'x-hybrid-backend'}, 'forge', 'by FORGE');
            ok(!$answer->{complete}, 'its end is missing');
        }
    }

    ok(wait_until(sub { counted($gw, 'broken') == $broken }, 3),
        "$broken broken") or diag(counted($gw, 'broken'));

    # before the header nothing is lost

    my @faults = (
        [ 'closed', { close_before_header => \1 } ],
        [ 'reset', { reset => \1 } ],
        [ '503', { status => 503 } ],
        [ '502', { status => 502 } ],
        [ '429', { status => 429 } ],
        [ '404', { status => 404 } ],
    );

    for my $case (@faults) {
        my ($what, $fault) = @$case;
        $forge->mock('behave', { %$fault, times => 1 });
        my $answer = raw_http($gw->{port}, post($client, stream => 1));
        is($answer->{status}, 200, "$what: answered");
        is($answer->{headers}{'x-hybrid-backend'}, 'anvil', 'by ANVIL');
        like($answer->{headers}{'x-hybrid-fallback'} // '', qr/\S/, 'marked');
        ok($answer->{complete}, 'all of it');
        $forge->mock('behave', {});
        $gw->reload if $what eq '502';     # failures take FORGE out for 10 s
    }

    is(counted($gw, 'broken'), $broken, 'nothing else is broken');

    # the only candidate of its model

    ok($forge->stop('KILL'), 'FORGE is killed');
    my $answer = raw_http($gw->{port}, post($client, model => 'llama3:8b'));
    like($answer->{status}, qr/^50[23]$/, 'nobody else has the model');
    ok($answer->{complete}, 'a whole refusal');
    like($answer->{body}, qr/^\{"error":"/, 'in the dialect');

    $answer = raw_http($gw->{port}, post($client));
    is($answer->{status}, 200, 'another model goes on');

    ok($anvil->stop('KILL'), 'ANVIL is killed, too');
    $answer = raw_http($gw->{port}, post($client));
    like($answer->{status}, qr/^50[23]$/, 'refused');
    ok($answer->{complete}, 'wholly');

    log_is_clean($gw, @expected);
    ok($gw->stop, 'ended');
};


subtest 'killed and started, five times' => sub {
    my ($gw, $forge, $anvil) = pair(name => 3,
        args => { 'prompt-ms' => 20 });
    my $port = $forge->{port};

    my $load = load(rate => 60, request => sub {
        return ($gw, post($client), 'plain') });

    for (1 .. 5) {
        sleep 0.4;
        $forge->stop('KILL');
        sleep 0.3;
        $forge = backend(name => 'forge3', args => { 'prompt-ms' => 20,
            listen => "127.0.0.1:$port" });
    }

    my $rows = $load->stop;
    is_deeply([ keys %{ numbers($rows) } ], [ 200 ], 'all are answered')
        or diag(explain(numbers($rows)));
    my %by;
    $by{ $_->{backend} }++ for @$rows;
    note(explain(\%by));
    ok($by{anvil}, 'by both');
    log_is_clean($gw, @expected);
    ok($gw->stop, 'ended');
};

all_ended();
done_testing();
