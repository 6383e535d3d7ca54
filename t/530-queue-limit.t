# "queue": what a limit of the client's would refuse waits for it.

use strict;
use warnings;

use lib 't/lib';
use Hybrid;
use HybridRedis ();
use Test::More;
use Time::HiRes qw(sleep time);

my $t = Hybrid->new;
my $forge = $t->backend('forge', models => 'm', tokens => 4);
my @clients = qw(rate short one bound gone both timed);
my %as = map { $_ => $t->token($_) } @clients;

my %limits = (
    rate => 'rate 10r/s; queue 20 timeout=30s;',
    short => 'rate 1r/m burst=2; queue 20 timeout=1s;',
    one => 'concurrency 1; queue 20 timeout=30s;',
    bound => 'concurrency 1; queue 3 timeout=30s;',
    gone => 'concurrency 1; queue 2 timeout=30s;',
    both => 'concurrency 1; tokens 100k/m; queue 8 timeout=20s;',
    timed => 'concurrency 1; queue 8 timeout=1s;',
);

my $http = join '', (map {
    "hybrid_client $_ { $as{$_}{line} models *; $limits{$_} }\n" } @clients),
    <<"END";
    hybrid_backend forge { pass http://$forge->{addr}; probe off; }
    hybrid_route * forge;
    log_format queue '\$hybrid_client \$status \$hybrid_queue_time';
    access_log queue.log queue;
END

$t->start(http => $http);


# a request under way; "id" tells them apart
sub send_one {
    my ($client, $id, %o) = @_;
    my $body = Hybrid::encode({ model => 'm', stream => \0,
        messages => [ { role => 'user', content => "id-$id" } ] });
    my $s = $t->open;
    my $head = "POST /api/chat HTTP/1.1\r\nHost: x\r\nConnection: close\r\n"
        . 'Content-Length: ' . length($body) . "\r\n"
        . $t->auth_lines($as{$client}) . "\r\n";

    $s->{rest} = $o{part} ? substr $body, -5, 5, '' : '';
    $s->{id} = $id;
    $s->{start} = time;
    $s->send($head . $body);
    return $s;
}

sub answer {
    my ($s) = @_;
    my $text = $s->read_until;
    $s->close;
    my ($status) = $text =~ /^HTTP\S+ (\d+)/;
    return $status // 0;
}

# those that the backend has seen, in that order
sub seen {
    return map { my $r = $_; $r->{body} =~ /id-(\w+)/ ? $1 : () }
           $forge->requests;
}

sub busy { my ($n) = @_; return poll { $forge->stats->{active} == $n } }


subtest 'a rate' => sub {
    my $start = time;
    my @all;

    for my $id (1 .. 8) {
        push @all, send_one('rate', $id);
        sleep 0.01;
    }

    is join(' ', map { answer($_) } @all), join(' ', (200) x 8), 'all pass';
    cmp_ok time - $start, '>=', 0.65, 'at their rate';
    is join(' ', seen()), '1 2 3 4 5 6 7 8', 'in the order they came';

    my $log = $t->wait_log('queue.log', qr/rate 200/, 8);
    like $log, qr/rate 200 0\.[3-9]\d\d/, 'and the log says how long';
};

subtest 'a limit that is too far away' => sub {
    my $start = time;
    my @all = map { send_one('short', $_) } 1 .. 4;
    is join(' ', sort map { answer($_) } @all), '200 200 429 429', 'refused';
    cmp_ok time - $start, '<', 1, 'at once';
};

subtest 'requests at a time' => sub {
    $forge->clear;
    $forge->behave(delay_ms => 100);
    my @all;

    for my $id (1 .. 5) {
        push @all, send_one('one', $id);
        $id == 1 ? busy(1) : sleep 0.02;
    }

    is join(' ', map { answer($_) } @all), '200 200 200 200 200', 'all pass';
    is join(' ', seen()), '1 2 3 4 5', 'in the order they came';
    is $forge->stats->{max_active}, 1, 'one by one';
    $forge->behave;
};

subtest 'no more than so many wait' => sub {
    $forge->clear;
    $forge->behave(delay_ms => 1500);
    my $first = send_one('bound', 1);
    busy(1);

    my @all = map { my $s = send_one('bound', $_); sleep 0.02; $s } 2 .. 6;
    my @late = splice @all, 3;
    my $start = time;

    is join(' ', map { answer($_) } @late), '429 429', 'others do not';
    cmp_ok time - $start, '<', 1.2, 'and know at once';
    $forge->behave;
    is join(' ', map { answer($_) } $first, @all), '200 200 200 200', 'they';
};

subtest 'a timeout' => sub {
    $forge->clear;
    $forge->behave(delay_ms => 3000, times => 1);
    my $first = send_one('timed', 1);
    busy(1);

    my $start = time;
    is answer(send_one('timed', 2)), 429, 'too late';
    my $time = time - $start;
    cmp_ok $time, '>=', 0.95, 'not too early';
    cmp_ok $time, '<', 2.5, 'not too late';
    is answer($first), 200, 'the first';
    is join(' ', seen()), '1', 'the other was never sent';
};

subtest 'who leaves is not there any more' => sub {
    $forge->clear;
    $forge->behave(delay_ms => 1000, times => 1);
    my $first = send_one('gone', 1);
    busy(1);

    # those that wait fill the queue, and leave it again
    for (1 .. 3) {
        my @gone = map { send_one('gone', "gone$_") } 1 .. 2;
        sleep 0.05;
        $_->reset for @gone;
        sleep 0.05;
    }

    my @all = map { my $s = send_one('gone', $_); sleep 0.02; $s } 2, 3;
    is join(' ', map { answer($_) } $first, @all), '200 200 200', 'others';
    is join(' ', seen()), '1 2 3', 'and only they';
};

subtest 'who has a slot does not wait for those that want it' => sub {
    $forge->clear;

    # the slot is taken at the headers, the tokens when the body is there
    my $first = send_one('both', 1, part => 1);
    sleep 0.1;
    my $second = send_one('both', 2);
    sleep 0.1;
    my $start = time;
    $first->send($first->{rest});

    is answer($first), 200, 'the first';
    cmp_ok time - $start, '<', 5, 'goes on';
    is answer($second), 200, 'the second';
    is join(' ', seen()), '1 2', 'in this order';
};

subtest 'a reload, and the end, while some wait' => sub {
    $forge->clear;
    $forge->behave(delay_ms => 700);
    my @all = map { my $s = send_one('one', $_); sleep 0.05; $s } 1 .. 3;
    busy(1);
    ok $t->reload, 'reloaded';
    push @all, send_one('one', 4);
    is join(' ', map { answer($_) } @all), '200 200 200 200', 'all pass';
    $forge->behave;
};


subtest 'with Redis, and without it meanwhile' => sub {
    my $redis = HybridRedis::redis(name => 'redis');
    my $there = sub {
        my $s = $t->get('/status')->{json};
        return $s && $s->{redis}{available};
    };

    ok $t->stop, 'ends';
    unlink "$t->{dir}/error.log";
    $t->start(http => "hybrid_redis 127.0.0.1:$redis->{port} timeout=1s;\n"
        . $http . "server { listen 127.0.0.1:%PORT%; location / {"
        . " hybrid_access token; include %PROXY%; }"
        . " location = /status { hybrid_status json; } }\n");
    ok poll { $there->() }, 'Redis';

    $forge->clear;
    my $start = time;
    my @all = map { my $s = send_one('rate', $_); sleep 0.02; $s } 1 .. 5;
    is join(' ', map { answer($_) } @all), '200 200 200 200 200', 'a rate';
    cmp_ok time - $start, '>=', 0.35, 'at that rate';
    is join(' ', seen()), '1 2 3 4 5', 'in the order they came';

    $forge->clear;
    $forge->behave(delay_ms => 400);
    @all = map { my $s = send_one('one', $_); busy(1) if $_ == 1;
                 sleep 0.02; $s } 1 .. 4;
    ok $redis->stop, 'away';
    is join(' ', map { answer($_) } @all), '200 200 200 200', 'all pass';
    is join(' ', seen()), '1 2 3 4', 'in the order they came';

    @all = map { my $s = send_one('one', $_); busy(1) if $_ == 5;
                 sleep 0.02; $s } 5 .. 7;
    ok $redis->start, 'back';
    is join(' ', map { answer($_) } @all), '200 200 200', 'and after that';
};

$t->done;
