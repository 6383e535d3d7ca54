# Failures to authenticate from one address: told of once in a while, slowed,
# and never at the cost of who shares the address.

use strict;
use warnings;

use lib 't/lib';
use Hybrid;
use Socket;
use Test::More;
use Time::HiRes qw(sleep time);

my $t = Hybrid->new;
my $forge = $t->backend('forge', models => 'm');
my $alice = $t->{as} = $t->token('alice');

my $conf = <<"END";
    log_format test '\$remote_addr \$status \$request_time '
                    '\$http_connection';
    access_log access.log test;

    hybrid_zone 1m;
    hybrid_client alice { $alice->{line} models m; }
    hybrid_backend forge { pass http://$forge->{addr}; models m; }
    hybrid_route * forge;

    keepalive_requests 100000;

    server {
        listen 127.0.0.1:%PORT1%;
        location / { hybrid_access token; include %PROXY%; }
        location /any {
            hybrid_access token; hybrid_status json;
            satisfy any; allow 127.0.0.50; deny all;
        }
        location = /status { hybrid_status json; }
        location = /metrics { hybrid_status prometheus; }
    }

    server {
        listen 127.0.0.1:%PORT2% http2;
        location / { hybrid_access token; include %PROXY%; }
    }
END

$t->start(http => $conf);

sub status { $t->get('/status', as => undef)->{json}{authentication} }

my $good = "GET /api/version HTTP/1.1\r\nHost: a\r\n" . $t->auth_lines . "\r\n";
my $bad = $good =~ s/Bearer \S+/Bearer $alice->{id}:nonsense/r;
my $bare = $good =~ s/Authorization.*\r\n//r;

# a connection from this address
sub from {
    my ($address, $text) = @_;
    my $s = IO::Socket::INET->new(PeerAddr => '127.0.0.1', Proto => 'tcp',
        PeerPort => $t->port, LocalAddr => $address, Timeout => 30)
        or die "connect from $address: $!";

    $s = bless { socket => $s, buffer => '' }, 'Hybrid::Socket';
    $s->send($text) if defined $text;

    return $s;
}

# so many requests, one after the other; the last one ends the connection
sub many {
    my ($n, $text) = @_;
    return $text x ($n - 1)
           . $text =~ s/\r\n\r\n/\r\nConnection: close\r\n\r\n/r;
}

# their statuses
sub ask {
    my ($address, $n, $text) = @_;
    my $s = from($address, many($n, $text));
    my @got = $s->read_until =~ m{HTTP/1\.1 (\d+)}g;
    $s->close;

    return @got == $n ? @got : (@got, 0);
}

sub all_are { my ($status, @got) = @_; return !grep { $_ != $status } @got }

# the burst of this address is used up
sub use_up {
    my ($address) = @_;
    my $slowed = status()->{slowed};
    my $n = 0;

    until (status()->{slowed} > $slowed) {
        ask($address, 100, $bad);
        return 0 if ++$n > 1000;
    }

    return 1;
}

# lines of the error log that name an address, and match
sub told {
    my ($address, $regex) = @_;
    return grep { /client: \Q$address\E,/ && $_ =~ $regex }
           split /\n/, $t->log('error.log');
}


my $first = time();

subtest 'what is told of' => sub {
    ok all_are(401, ask('127.0.0.2', 30, $bad)), 'refused';
    is scalar(told('127.0.0.2', qr/not authenticated: wrong id or secret/)), 9,
        'the first ones are in the log';

    ask('127.0.0.2', 5, $bare);
    is scalar(told('127.0.0.2', qr/not authenticated: no credential/)), 1,
        'another kind of failure is, too';

    ask('127.0.0.3', 3, $bad);
    is scalar(told('127.0.0.3', qr/not authenticated: wrong id/)), 3,
        'and another address';

    ask('127.0.0.4', 1, $bare =~ s/\r\n\r\n/\r\nx-api-key: a\r\n\r\n/r);
    ask('127.0.0.4', 1, $bare =~ s/\r\n\r\n/\r\nx-api-key: :\r\n\r\n/r);

    is_deeply status(), { slowed => 0, failures => { invalid => 33,
        missing => 5, malformed => 2, expired => 0, revoked => 0 } },
        'all are counted';

    my $text = $t->get('/metrics', as => undef)->{content};
    like $text, qr/^ngx_hybrid_authentication_failures_total
                   \{reason="invalid"\}\ 33$/xm, 'in metrics, too';
    like $text, qr/^ngx_hybrid_authentication_slowed_total 0$/m, 'slowed';
};


subtest 'satisfy any' => sub {
    my $before = status()->{failures};
    my $text = $bare =~ s{/api/version HTTP/1.1}{/any HTTP/1.0}r;

    for my $n (1 .. 12) {
        my $s = from('127.0.0.50', $text);
        like $s->read_until, qr/^HTTP\S+ 200/, 'let in' if $n == 12;
        $s->read_until;
        $s->close;
    }

    is_deeply status()->{failures}, $before,
        'whom another module lets in has not failed';
    is scalar(told('127.0.0.50', qr/not authenticated/)), 0, 'in the log';

    for my $n (1 .. 3) {
        my $s = from('127.0.0.51', $text);
        like $s->read_until, qr/^HTTP\S+ 40[13]/, 'not let in' if $n == 3;
        $s->read_until;
        $s->close;
    }

    is status()->{failures}{missing}, $before->{missing} + 3,
        'who is refused by all has';
    is scalar(told('127.0.0.51', qr/not authenticated: no credential/)), 3,
        'in the log';
};


subtest 'slowed' => sub {
    my $begin = time();
    ok all_are(401, ask('127.0.0.5', 650, $bad)), 'all are answered';
    cmp_ok time() - $begin, '>', 1.4, 'not faster than 100 in a second';
    cmp_ok status()->{slowed}, '>', 0, 'and counted';

    my $slowed = status()->{slowed};
    ok all_are(200, ask('127.0.0.5', 50, $good)), 'a good one gets in';
    ok all_are(401, ask('127.0.0.6', 50, $bad)), 'others fail at once';
    is status()->{slowed}, $slowed, 'none of these waited';
};


subtest 'a good one overtakes' => sub {
    my $seen = 0;

    for my $try (1 .. 50) {
        ok(use_up('127.0.0.7'), 'used up') if $try == 1;
        ask('127.0.0.7', 400, $bad) if $try > 1 && !use_up('127.0.0.7');

        my @bad = map { from('127.0.0.7', $bad) } 1 .. 20;
        my $s = from('127.0.0.7', $good);
        my $text = $s->read_until(qr/\r\n\r\n.*\}/s);
        my $select = IO::Select->new(map { $_->{socket} } @bad);
        my $ready = () = $select->can_read(0);
        $s->close;

        my @got = map { $_->read_until(qr/\}\n/) } @bad;
        $_->close for @bad;

        if ($text !~ /^HTTP\S+ 200/ || grep { !/^HTTP\S+ 401/ } @got) {
            fail 'answers';
            last;
        }

        $seen = $ready < 20;
        last if $seen;
    }

    ok $seen, 'answered while bad ones wait';
};


subtest 'the line is bounded' => sub {
    ok use_up('127.0.0.8'), 'used up';

    my $begin = time();
    my @bad = map { from('127.0.0.8', many(20, $bad)) } 1 .. 60;
    my @got = map { $_->read_until } @bad;
    $_->close for @bad;

    is scalar(grep { (() = /^HTTP\S+ 401/mg) == 20 } @got), 60,
        'more than may wait, and all have their answers';

    # 1200 at 100/s would be 12 s
    cmp_ok time() - $begin, '<', 11, 'who finds it full does not wait'
        if !$Hybrid::VALGRIND;

    my @times = sort { $a <=> $b }
                map { /^127\.0\.0\.8 401 (\S+) -/ ? $1 : () }
                split /\n/, $t->log('access.log');
    cmp_ok $times[-1], '<', $Hybrid::VALGRIND ? 20 : 3, 'nobody waits long';
    cmp_ok $times[-1], '>', 0.05, 'but somebody does';
};


subtest 'the client leaves' => sub {
    my $gone = sub {
        my @n = $t->log('access.log') =~ /^127\.0\.0\.9 499 /mg;
        return scalar @n;
    };

    ok +(poll {
        use_up('127.0.0.9');
        my @bad = map { from('127.0.0.9', $bad) } 1 .. 30;
        sleep 0.03;
        $_ % 2 ? $bad[$_]->reset : $bad[$_]->close for 0 .. $#bad;
        $gone->() >= 10;
    }), 'while it waits';

    ok all_are(200, ask('127.0.0.9', 3, $good)), 'others go on';
};


subtest 'HTTP/2' => sub {
    my @nghttp = ('nghttp', '-nv', '-H',
                  ":authority: a", '-H', 'x-api-key: nobody:nonsense');
    my $url = 'http://127.0.0.1:' . $t->port(2) . '/api/version';
    my $slowed = status()->{slowed};
    my $got;

    my $waited = poll {
        my $text = $t->run(@nghttp, '-m', 800, $url);
        $got = () = $text =~ /:status: 401/g;
        $got != 800 || status()->{slowed} > $slowed;
    };

    is $got, 800, 'all are answered';
    ok $waited, 'some waited';

    # gone in the middle of it
    $t->run('timeout', '-s', 'KILL', 0.5, @nghttp, '-m', 20000, $url);

    is $t->get('/api/version')->{status}, 200, 'goes on';
};


# nobody may lose an answer, and the worker leaves
subtest 'reload' => sub {
    for my $try (1 .. 5) {
        use_up('127.0.0.11');
        my ($worker) = Hybrid::_workers($t->{pid});
        my @bad = map { from('127.0.0.11', $bad) } 1 .. 30;

        kill HUP => $t->{pid};
        my @got = map { $_->read_until(qr/\}\n/) } @bad;
        $_->close for @bad;

        is scalar(grep { /^HTTP\S+ 401.*required/s } @got), 30,
            'all have their answer' or diag join "\n", @got;
        ok +(poll { !kill 0 => $worker }), 'the old worker has left';
        ok +(poll { $t->_ready }), 'the new one is there';
    }

    cmp_ok status()->{slowed}, '>', 0, 'what was counted stays';
};


subtest 'the end of the interval' => sub {
    my $line = qr/\[warn\].*:\ 35\ authentication\ failures\ from
                  \ 127\.0\.0\.2\ in\ the\ last\ (\d+)\ s,
                  \ last:\ no\ credential$/xm;

    my $told = poll { $t->log('error.log') =~ $line }
                    $first + 60 - time() + $Hybrid::PATIENCE;
    ok $told, 'is told of'
       or diag grep { /authentication failures/ }
               split /^/, $t->log('error.log');

    my ($seconds) = $t->log('error.log') =~ $line;
    cmp_ok $seconds // 0, '>=', 60, 'with its length';
    my @lines = $t->log('error.log') =~ /$line/g;
    is scalar @lines, 1, 'once';
    is scalar(() = $t->log('error.log') =~ /failures from 127\.0\.0\.3 /g), 0,
        'what was told of one by one is not told again';

    unlike $t->log('error.log'), qr/nonsense|\Q$alice->{secret}\E/,
        'no secrets';
};


subtest 'quit' => sub {
    use_up('127.0.0.12');
    my @bad = map { from('127.0.0.12', $bad) } 1 .. 30;

    ok $t->stop, 'while some wait';
    $_->close for @bad;
};

$t->done;
