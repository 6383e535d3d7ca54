# Secrets are read again when their files change.

use strict;
use warnings;

use lib 't/lib';
use File::Temp;
use Hybrid;
use Test::More;
use Time::HiRes 'sleep';

my $t = Hybrid->new;
my $workers = 3;
my ($user, $gid) = (getpwnam 'nobody')[0, 3];
my $drop = $> == 0 && $user;

# where also the user of the workers gets to
my $dir = File::Temp->newdir('hybridXXXXXX', TMPDIR => 1);
chmod 0755, $dir;

my %b = map { $_ => $t->backend($_, models => $_) } qw(bearer key pair);
my $alice = $t->token('alice');
my $n = 0;

$t->{as} = $alice;

sub fresh { return sprintf 'secret-%s-%05d', Hybrid::sha256(rand), ++$n }

sub path { return "$dir/$_[0]" }

# by rename, as tools do that care
sub put {
    my ($name, $text, $mode) = @_;
    my $new = path("$name.new");

    open my $fh, '>:raw', $new or die "$new: $!";
    chmod $mode // 0644, $new;
    print $fh $text;
    close $fh or die "$new: $!";
    rename $new, path($name) or die "$new: $!";
}

# as editors do that do not
sub overwrite {
    my ($name, $text) = @_;
    open my $fh, '+<:raw', path($name) or die "$name: $!";
    truncate $fh, length $text;
    syswrite $fh, $text;
    close $fh or die "$name: $!";
}

my %now = map { $_ => fresh() } qw(bearer key id secret);

put($_, "$now{$_}\n") for keys %now;

$t->start(workers => $workers, main => $drop ? "user $user "
          . getgrgid($gid) . ';' : '', http => <<"END");
    hybrid_client alice { $alice->{line} models *; egress any; }
    hybrid_backend bearer { pass http://$b{bearer}{addr};
                            credential bearer $dir/bearer; }
    hybrid_backend key { pass http://$b{key}{addr};
                         credential header X-Key $dir/key; }
    hybrid_backend pair { pass http://$b{pair}{addr};
                          credential access $dir/id $dir/secret; }
    hybrid_route bearer bearer;
    hybrid_route key key;
    hybrid_route pair pair;
    server {
        listen 127.0.0.1:%PORT%;
        location / {
            hybrid_access token;
            include %PROXY%;
            proxy_set_header X-Again \$hybrid_authorization;
        }
    }
END

my %header = (bearer => 'authorization', key => 'x-key',
              id => 'cf-access-client-id',
              secret => 'cf-access-client-secret');
my %where = (bearer => 'bearer', key => 'key', id => 'pair',
             secret => 'pair');

# what the backend is shown now
sub shown {
    my ($name) = @_;
    my $where = $where{$name};
    my $r = $t->post('/api/generate', { model => $where, stream => \0 });
    return "status $r->{status}" if $r->{status} != 200;
    my $header = $b{$where}->last->{header};
    my $text = $header->{$header{$name}} // 'none';
    return $text if $name ne 'bearer';
    return "$text, again $header->{'x-again'}" if $header->{'x-again'} ne $text;
    return $text =~ s/^Bearer //r;
}

sub lines { return scalar(() = $t->log('error.log') =~ /$_[0]/g) }

# all workers have it; after that the old one is not seen again
sub arrives {
    my ($name, $new, $note) = @_;
    my $said = qr/\[notice\] .*secret file "\Q$dir\E\/$name" has changed/;
    my $before = $now{"$name lines"} // 0;

    ok poll { lines($said) >= $before + $workers }, "$note: all know it";
    $now{"$name lines"} = $before + $workers;
    $now{$name} = $new;

    my %seen;
    $seen{shown($name)}++ for 1 .. 12;
    is_deeply \%seen, { $new => 12 }, "$note: only the new one is used";
    is lines($said), $now{"$name lines"}, "$note: said once a worker";
}


subtest 'a change' => sub {
    is shown($_), $now{$_}, "$_ at start" for sort keys %where;

    my @kinds = (
        'renamed' => \&put, sub { fresh() . "\n" },
        'in place, the same size' => \&overwrite, sub { fresh() . "\n" },
        'shorter, no newline' => \&overwrite, sub { 'short' . ++$n },
        'long' => \&put, sub { 'x' x 4000 . ++$n . "\r\n" });

    while (my ($note, $write, $text) = splice @kinds, 0, 3) {
        my %new = map { $_ => $text->() } keys %where;

        $write->($_, $new{$_}) for sort keys %where;
        arrives($_, $new{$_} =~ s/\s+$//r, "$_, $note") for sort keys %where;
    }

    # the time of the file says nothing
    my @stat = stat path('key');
    put('key', (my $new = 'y' x 4000 . ++$n) . "\r\n");
    utime $stat[8], $stat[9], path('key');
    arrives('key', $new, 'with the same time');
};


subtest 'two at once' => sub {
    my %new = map { $_ => fresh() } qw(id secret);
    put($_, "$new{$_}\n") for keys %new;
    arrives($_, $new{$_}, $_) for sort keys %new;
};


subtest 'what can not be a secret' => sub {
    my $log = qr/\[warn\] .*secret file "\Q$dir\E\/key" must hold one line/;
    my $large = qr/\[warn\] .*"\Q$dir\E\/key" is larger than 8191 bytes/;
    my %bad = ('nothing' => '', 'a newline' => "\n", 'two lines' => "a\nb\n",
               'a blank' => "a b\n", 'a NUL' => "a\0", 'umlauts' => "\xe4");

    for my $name (sort keys %bad) {
        my $before = lines($log);
        put('key', $bad{$name});
        ok poll { lines($log) > $before }, "$name is said";
        is shown('key'), $now{key}, 'the old one stays';
    }

    # it is looked at again, as it was read when it changed
    sleep 2.5;
    is lines($log), scalar keys %bad, 'each is said once';

    put('key', 'z' x 8192);
    ok poll { lines($large) }, 'too long';
    is shown('key'), $now{key};
    sleep 2.5;
    is lines($large), 1, 'said once';

    unlink path('key');
    ok poll { lines(qr/\[warn\] .*stat\(\) "\Q$dir\E\/key" failed/) }, 'gone';
    is shown('key'), $now{key};

    # not every second
    sleep 2.5;
    is lines(qr/\[warn\] .*stat\(\) "\Q$dir\E\/key" failed/), 1, 'once';

    put('key', (my $new = fresh()) . "\n");
    arrives('key', $new, 'a good one again');
};


subtest 'what the workers may not read' => sub {
    plan skip_all => 'nobody can take another user' if !$drop;

    my $log = qr{\[warn\] .*open\(\) "\Q$dir\E/key" failed, it has ch};

    put('key', (my $new = fresh()) . "\n", 0600);
    ok poll { lines($log) }, 'is said';
    like $t->log('error.log'), qr/ed: reload nginx, or let the workers' group/;
    is shown('key'), $now{key}, 'the old one stays';
    sleep 2.5;
    is lines($log), 1, 'once';

    chmod 0644, path('key');
    arrives('key', $new, 'they may');

    # the master reads it; that workers can't is no fault at start
    put('key', ($new = fresh()) . "\n", 0600);
    ok poll { lines($log) == 2 }, 'is said again';
    ok $t->reload, 'reload';
    my %seen;
    ok poll { shown('key') eq $new }, 'the master has read it';
    $now{key} = $new;
    sleep 2.5;
    is lines($log), 2, 'no more is said';
};


subtest 'a worker that is new' => sub {
    put('bearer', (my $new = fresh()) . "\n");
    arrives('bearer', $new, 'before');

    # it starts with what the master has
    my ($pid) = Hybrid::_workers($t->{pid});
    kill KILL => $pid;
    $t->expect_log(qr/worker process $pid exited on signal 9/);
    ok poll { grep { $_ != $pid } Hybrid::_workers($t->{pid}) }, 'another one';
    arrives('bearer', $new, 'after') if poll {
        lines(qr/"\Q$dir\E\/bearer" has changed/)
            > $now{'bearer lines'} and $now{'bearer lines'} -= $workers - 1;
    };
};


subtest 'the password of Redis' => sub {
    my $x = Hybrid->new;
    my $socket = "$dir/redis.sock";
    my %password = map { $_ => fresh() } qw(old new);
    my $redis = sub {
        my ($as, @command) = @_;
        local $ENV{REDISCLI_AUTH} = $password{$as};
        return $x->run('redis-cli', '-s', $socket, @command);
    };

    my $pid = Hybrid::_spawn("$dir", "$dir/redis.out", 'redis-server',
        '--port', 0, '--unixsocket', $socket, '--unixsocketperm', 777,
        '--save', '', '--requirepass', $password{old});
    ok poll { $redis->('old', 'ping') =~ /PONG/ }, 'Redis is there';

    put('password', "$password{old}\n");
    $x->start(http => <<"END");
        hybrid_redis unix:$socket password_file=$dir/password;
        hybrid_client alice { $alice->{line} models *; rate 1000r/s; }
        hybrid_backend key { pass http://$b{key}{addr}; }
        hybrid_route * key;
END
    # the gateway's connections: redis-cli's is the one that asks
    my $connected = sub {
        my ($as) = @_;
        return scalar grep { !/cmd=client/ } split /\n/,
            $redis->($as, 'client', 'list');
    };
    ok poll { $connected->('old') == 1 }, 'the gateway, too';

    put('password', "$password{new}\n");
    ok $x->wait_log('error.log', qr/secret file "\S+password" has changed/),
       'the file has changed';
    $redis->('old', 'config', 'set', 'requirepass', $password{new});
    $redis->('new', 'client', 'kill', 'type', 'normal');
    ok poll { $connected->('new') == 1 }, 'it is back with the new one';
    is $x->get('/api/tags', as => $alice)->{status}, 200, 'and works';
    ok $x->log('error.log') !~ /WRONGPASS|NOAUTH|secret-[0-9a-f]{16}/,
       'nothing was refused';
    ok $x->stop, 'ended';
    Hybrid::_end($pid, 'TERM');
};


my $log = $t->log('error.log') . $t->log('access.log');
ok $log !~ /secret-[0-9a-f]{16}/, 'no secret in the log';

$t->done;
