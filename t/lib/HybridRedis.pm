package HybridRedis;

# Whole gateways for the .t files that Test::Nginx is not made for: several
# nginx masters, a real Redis that comes and goes, backends that are killed,
# and a load that runs meanwhile.  Everything is in a temporary directory, on
# free ports, and is gone when the test ends.

use strict;
use warnings;

use Digest::SHA 'sha256_hex';
use Errno qw(EAGAIN EINPROGRESS EINTR EWOULDBLOCK);
use Exporter 'import';
use Fcntl qw(F_GETFL F_SETFL O_NONBLOCK);
use File::Temp;
use IO::Handle;
use IO::Socket::INET;
use IO::Socket::UNIX;
use JSON::PP;
use POSIX ();
use Socket qw(PF_INET SOCK_STREAM SOL_SOCKET SO_ERROR inet_aton
              pack_sockaddr_in);
use Test::More;
use Time::HiRes qw(clock_gettime CLOCK_MONOTONIC sleep);

our @EXPORT = qw(now backend gateway redis client_block http raw_http
    post body load wait_until dir free_port log_is_clean all_ended numbers
    admitted between slurp spew);

my $owner = $$;
my $root = $ENV{HYBRID_ROOT} || POSIX::getcwd();
my $build = $ENV{HYBRID_BUILD} || "$root/build";
my $binary = $ENV{TEST_NGINX_BINARY} || '/usr/sbin/nginx';
my $module = $ENV{TEST_NGINX_LOAD_MODULES}
             || "$build/ngx_http_hybrid_module.so";

my $dir;
my %processes;       # pid => what
my $count = 0;

# a machine that is busy, or an nginx that is slow, is no reason to fail

our $PATIENCE = 15;

$SIG{PIPE} = 'IGNORE';
$SIG{$_} = sub { exit 130 } for qw(INT TERM HUP);

if ($ENV{TEST_NGINX_USE_VALGRIND}) {
    plan(skip_all => 'depends on time, and is too slow under valgrind');
}


sub now { return clock_gettime(CLOCK_MONOTONIC) }

sub dir {
    # short, for the names of unix sockets
    $dir ||= File::Temp->newdir('hybridXXXXXX', TMPDIR => 1, CLEANUP => 1);
    return "$dir";
}

sub slurp {
    my ($file) = @_;
    open my $in, '<', $file or return '';
    local $/;
    return scalar <$in> // '';
}

sub spew {
    my ($file, $text) = @_;
    open my $out, '>', $file or die "$file: $!";
    chmod 0600, $file;
    print $out $text;
    close $out or die "$file: $!";
    return $file;
}

sub wait_until {
    my ($check, $seconds, $pause) = @_;
    my $end = now() + ($seconds // $PATIENCE);

    for (;;) {
        my $found = $check->();
        return $found if $found;
        return if now() > $end;
        sleep($pause // 0.02);
    }
}

# below the range that the kernel takes the ports of connections from
sub free_port {
    for (1 .. 1000) {
        my $port = 10000 + int rand 22000;
        my $probe = IO::Socket::INET->new(Listen => 1, Proto => 'tcp',
            LocalAddr => '127.0.0.1', LocalPort => $port) or next;
        close $probe;
        return $port;
    }
    die 'no free port';
}

sub spawn {
    my ($what, $output, @command) = @_;
    my $pid = fork // die "fork: $!";

    if (!$pid) {
        $SIG{$_} = 'DEFAULT' for qw(INT TERM HUP PIPE);
        setpgrp;
        open STDIN, '<', '/dev/null';
        open STDOUT, '>>', $output;
        open STDERR, '>>', $output;
        exec { $command[0] } @command or POSIX::_exit(127);
    }

    # here as well: a signal to the group must not come too early
    setpgrp $pid, $pid;
    $processes{$pid} = $what;
    return $pid;
}

# a child that was forked without an exec
sub adopt {
    my ($pid, $what) = @_;
    setpgrp $pid, $pid;
    $processes{$pid} = $what;
    return;
}

# true when it has ended, or ends in time
sub ended {
    my ($pid, $seconds) = @_;
    return 1 if !$processes{$pid};
    my $gone = wait_until(sub { waitpid($pid, POSIX::WNOHANG()) != 0 },
        $seconds // 0);
    delete $processes{$pid} if $gone && !kill 0, -$pid;
    return $gone;
}

END {
    if ($$ == $owner) {
        my $status = $?;
        for my $pid (keys %processes) {
            kill 'CONT', -$pid;
            kill 'KILL', -$pid;
        }
        waitpid $_, 0 for keys %processes;
        $? = $status;
    }
}


# client_block('name', 'rate 1r/m;'): its block, and the headers to send
sub client_block {
    my ($name, $limits, %o) = @_;
    my $models = $o{models} // '*';
    my $verbs = $o{verbs} // 'inference read';
    my $secret = "the-secret-of-$name";
    my $digest = sha256_hex($secret);

    $limits //= '';

    return {
        name => $name,
        secret => $secret,
        conf => <<"END",
    hybrid_client $name {
        token   $name.access sha256:$digest;
        models  $models;
        verbs   $verbs;
        $limits
    }
END
        headers => "CF-Access-Client-Id: $name.access\r\n"
                   . "CF-Access-Client-Secret: $secret\r\n",
        bearer => "Authorization: Bearer $name.access:$secret\r\n",
    };
}


# -- backends

sub backend {
    my (%o) = @_;
    my $name = $o{name} // 'forge';
    my $file = dir() . "/$name.port";
    unlink $file;

    my $pid = spawn("backend $name", dir() . "/$name.out", 'python3',
        "$root/conf/demo/backend.py", '--name', $name, '--port-file', $file,
        '--models', $o{models} // 'mistral:7b,bge-m3,llama3:8b',
        map { ('--' . $_, $o{args}{$_}) } sort keys %{ $o{args} || {} });

    wait_until(sub { -s $file }) or die "backend $name: " . slurp(
        dir() . "/$name.out");
    chomp(my $port = slurp($file));

    return bless { name => $name, pid => $pid, port => $port },
        'HybridRedis::Backend';
}


# -- gateways

# gateway(name => 'gw1', workers => 2, http => '...', server => '...')
sub gateway {
    my (%o) = @_;
    my $name = $o{name} // 'gw' . ++$count;
    my $self = bless { name => $name, %o }, 'HybridRedis::Gateway';

    $self->{home} = dir() . "/$name";
    mkdir $self->{home};
    $self->{log} = "$self->{home}/error.log";

    for my $attempt (1 .. 5) {
        $self->{port} = free_port();
        $self->{tls_port} = free_port() if $o{tls};
        $self->configure;
        return $self if $self->start;
        last if slurp($self->{log}) !~ /Address already in use/;
    }

    die "$name does not start:\n" . slurp($self->{log})
        . slurp("$self->{home}/output");
}


package HybridRedis::Backend;

use POSIX ();

sub stop {
    my ($self, $signal) = @_;
    kill $signal // 'KILL', $self->{pid};
    return HybridRedis::ended($self->{pid}, $HybridRedis::PATIENCE);
}

sub mock {
    my ($self, $what, $value) = @_;
    my $body = defined $value ? JSON::PP::encode_json($value) : '';
    my $answer = HybridRedis::raw_http($self->{port},
        ($value ? 'POST' : 'GET') . " /_mock/$what HTTP/1.1\r\nHost: x\r\n"
        . 'Content-Length: ' . length($body)
        . "\r\nConnection: close\r\n\r\n$body");
    return JSON::PP::decode_json($answer->{body});
}


package HybridRedis::Gateway;

sub configure {
    my ($self, %change) = @_;
    @$self{keys %change} = values %change;

    my $home = $self->{home};
    my $user = $> == 0 ? 'user root;' : '';
    my $workers = $self->{workers} // 2;
    my $listen = $self->{listen} // '';
    my $level = $self->{level} // 'notice';
    my $tls = '';

    if ($self->{tls}) {
        $tls = "listen 127.0.0.1:$self->{tls_port} ssl http2;\n"
               . "ssl_certificate $self->{tls}{cert};\n"
               . "ssl_certificate_key $self->{tls}{key};";
    }

    my $server = $self->{server} // '';
    my $http = $self->{http} // '';
    my $main = $self->{main} // '';

    HybridRedis::spew("$home/nginx.conf", <<"END");
load_module "$module";
$user
daemon            off;
worker_processes  $workers;
pid               nginx.pid;
error_log         error.log $level;
$main

events {
    worker_connections 1024;
}

http {
    client_body_temp_path body;
    proxy_temp_path       proxy;
    fastcgi_temp_path     fastcgi;
    uwsgi_temp_path       uwsgi;
    scgi_temp_path        scgi;

    log_format hybrid '\$msec \$pid \$status \$request_time \$hybrid_client '
                      '\$hybrid_model \$hybrid_backends \$hybrid_reason '
                      '"\$request"';
    access_log access.log hybrid;

    $http

    server {
        listen 127.0.0.1:$self->{port} backlog=4096 $listen;
        $tls

        add_header X-Worker \$pid always;

        location / {
            hybrid_access token;
            include "$root/conf/hybrid_proxy.conf";
        }

        location = /hybrid/status  { hybrid_status json; }
        location = /hybrid/metrics { hybrid_status prometheus; }

        $server
    }
}
END
    return $self;
}

sub start {
    my ($self) = @_;
    my $home = $self->{home};

    unlink "$home/nginx.pid";
    HybridRedis::spew($self->{log}, '') if $self->{starting}++;
    my $pid = HybridRedis::spawn($self->{name}, "$home/output", $binary,
        '-p', "$home/", '-c', "$home/nginx.conf", '-e', "$home/error.log");
    $self->{pid} = $pid;

    my $ready = HybridRedis::wait_until(sub {
        return -1 if waitpid($pid, POSIX::WNOHANG()) != 0;
        return -s "$home/nginx.pid" && $self->workers
               && IO::Socket::INET->new(PeerAddr => '127.0.0.1',
                   PeerPort => $self->{port}) ? 1 : 0;
    });

    delete $processes{$pid} if ($ready // 0) == -1;
    return ($ready // 0) == 1;
}

sub hup { my ($self) = @_; return kill 'HUP', $self->{pid} }

# their pids, without those that are shutting down
sub workers {
    my ($self, $all) = @_;
    my @children = split ' ', HybridRedis::slurp(
        "/proc/$self->{pid}/task/$self->{pid}/children");
    return grep {
        my $title = HybridRedis::slurp("/proc/$_/cmdline");
        $title =~ /worker process/
            && ($all || $title !~ /shutting down/) } @children;
}

# reloads and waits until the new workers are alone
sub reload {
    my ($self) = @_;
    my %old = map { $_ => 1 } $self->workers(1);
    $self->hup;
    return HybridRedis::wait_until(sub {
        my @now = $self->workers(1);
        return @now == ($self->{workers} // 2) && !grep { $old{$_} } @now;
    });
}

sub stop {
    my ($self, $signal) = @_;
    kill $signal // 'QUIT', $self->{pid};
    return HybridRedis::ended($self->{pid}, $HybridRedis::PATIENCE);
}

sub status {
    my ($self, $scope) = @_;
    my $answer = HybridRedis::http($self, 'GET',
        '/hybrid/status' . ($scope ? "?scope=$scope" : ''));
    return $answer->{status} eq '200'
        ? eval { JSON::PP::decode_json($answer->{body}) } : undef;
}


package HybridRedis::Redis;

sub start {
    my ($self) = @_;
    my @args = ('--bind', '127.0.0.1', '--port', $self->{port},
        '--dir', $self->{home}, '--daemonize', 'no', '--logfile',
        "$self->{home}/log", '--save', '', @{ $self->{args} || [] });

    push @args, '--unixsocket', $self->{socket} if $self->{socket};

    $self->{pid} = HybridRedis::spawn("redis $self->{name}",
        "$self->{home}/output", 'redis-server', @args);

    return HybridRedis::wait_until(sub {
        my $pong = eval { $self->command('PING') } // '';
        return $pong eq 'PONG' || $pong =~ /NOAUTH/;
    });
}

sub stop {
    my ($self, $signal) = @_;
    kill $signal // 'KILL', $self->{pid};
    return HybridRedis::ended($self->{pid}, $HybridRedis::PATIENCE);
}

sub freeze { my ($self) = @_; return kill 'STOP', $self->{pid} }
sub thaw { my ($self) = @_; return kill 'CONT', $self->{pid} }

# one command on a connection of its own; dies when Redis is not there
sub command {
    my ($self, @args) = @_;
    my @commands = (@{ $self->{login} || [] }, [@args]);
    my $socket = IO::Socket::INET->new(PeerAddr => '127.0.0.1',
        PeerPort => $self->{port}, Timeout => 5) or die "redis: $!";

    for my $command (@commands) {
        print $socket '*' . @$command . "\r\n"
            . join '', map { '$' . length($_) . "\r\n$_\r\n" } @$command;
    }

    $socket->flush;
    my $reply;
    $reply = reply($socket) for @commands;
    return $reply;
}

sub reply {
    my ($socket) = @_;
    my $line = <$socket> // die 'redis: closed';
    $line =~ s/\r\n//;
    my ($type, $text) = $line =~ /^(.)(.*)/;
    return $text if $type =~ /[+:]/;
    return "-$text" if $type eq '-';
    return if $text < 0;
    return [ map { reply($socket) } 1 .. $text ] if $type eq '*';
    read $socket, my $data, $text + 2;
    return substr $data, 0, $text;
}


package HybridRedis;

sub redis {
    my (%o) = @_;
    my $name = $o{name} // 'redis' . ++$count;
    my $self = bless { name => $name, %o }, 'HybridRedis::Redis';

    $self->{home} = dir() . "/$name";
    mkdir $self->{home};
    $self->{socket} = "$self->{home}/sock" if $o{unix};

    for (1 .. 5) {
        $self->{port} = $o{ports} ? $o{ports}->() : free_port();
        return $self if $o{later} || $self->start;
    }

    die "redis does not start:\n" . slurp("$self->{home}/log");
}


# -- HTTP

sub body {
    my ($model, %o) = @_;
    return JSON::PP->new->canonical->encode({
        model => $model // 'mistral:7b',
        messages => [ { role => 'user', content => 'Say hello, please.' } ],
        stream => $o{stream} ? JSON::PP::true : JSON::PP::false, %{ $o{more}
            || {} } });
}

# the text of a POST on a connection of its own
sub post {
    my ($client, %o) = @_;
    my $body = $o{body} // body($o{model}, stream => $o{stream});
    return 'POST ' . ($o{path} // '/api/chat') . " HTTP/1.1\r\n"
        . "Host: gateway\r\nContent-Type: application/json\r\n"
        . ($client ? $client->{headers} : '')
        . 'Content-Length: ' . length($body)
        . "\r\nConnection: close\r\n\r\n$body";
}

sub http {
    my ($gateway, $method, $path, $headers) = @_;
    return raw_http($gateway->{port}, "$method $path HTTP/1.1\r\n"
        . "Host: gateway\r\n" . ($headers // '') . "Connection: close\r\n\r\n");
}

sub raw_http {
    my ($port, $text, $seconds) = @_;
    my $got = '';
    my $started = now();

    my $socket = IO::Socket::INET->new(PeerAddr => '127.0.0.1',
        PeerPort => $port, Timeout => 10)
        or return { status => 0, error => "connect: $!", headers => {},
                    body => '', complete => 0, time => 0 };

    $socket->autoflush(1);
    print $socket $text;

    eval {
        local $SIG{ALRM} = sub { die "timeout\n" };
        alarm($seconds // 30);
        while (sysread $socket, $got, 65536, length $got) { }
        alarm 0;
    };
    alarm 0;

    my $answer = parse($got);
    $answer->{time} = now() - $started;
    return $answer;
}

# status, headers, body, and whether the answer is all there
sub parse {
    my ($text) = @_;
    my %answer = (status => 0, headers => {}, body => '', complete => 0);

    my ($head, $rest) = $text =~ /\A(HTTP.*?\r\n)\r\n(.*)\z/s
        or return \%answer;

    ($answer{status}) = $head =~ /^HTTP\S+ (\d+)/;

    while ($head =~ /^([^:\r\n]+):\s*(.*?)\r$/mg) {
        $answer{headers}{ lc $1 } = $2;
    }

    my $length = $answer{headers}{'content-length'};

    if (($answer{headers}{'transfer-encoding'} // '') eq 'chunked') {
        while ($rest =~ /\G([0-9a-f]+)\r\n/gci) {
            my $size = hex $1;
            if ($size == 0) {
                $answer{complete} = substr($rest, pos $rest) eq "\r\n";
                last;
            }
            $answer{body} .= substr $rest, pos $rest, $size;
            last if pos($rest) + $size + 2 > length $rest;
            pos($rest) += $size + 2;
        }

    } else {
        $answer{body} = $rest;
        $answer{complete} = !defined $length || $length == length $rest;
    }

    return \%answer;
}


# -- a load that goes on while the test does something else

# load(rate => 200, seconds => 20, request => sub { my $n = shift;
#      return ($gateway, $text, $tag) })
#
# Requests are started at that rate whether or not others have been answered,
# each on its own connection; at most "most" at a time.
sub load {
    my (%o) = @_;
    my $file = dir() . '/load' . ++$count;
    my $pid = fork // die "fork: $!";

    if (!$pid) {
        my $stop = 0;
        $SIG{TERM} = sub { $stop = 1 };
        $SIG{INT} = $SIG{HUP} = 'DEFAULT';
        eval { generate($file, \$stop, %o); 1 } or warn $@;
        POSIX::_exit(0);
    }

    adopt($pid, 'load');
    return bless { pid => $pid, file => $file }, 'HybridRedis::Load';
}

my @fields = qw(tag gateway start first end status complete limits backend
    fallback retry reason worker length error);

sub generate {
    my ($file, $stop, %o) = @_;
    my $most = $o{most} // 400;
    my $timeout = $o{timeout} // 20;
    my ($n, %open) = (0);

    open my $out, '>', "$file.new" or die "$file: $!";

    my $started = now();
    my $end = $started + ($o{seconds} // 1e9);
    my $last;

    for (;;) {
        my $time = now();
        my $more = !$$stop && $time < $end && (!$o{count} || $n < $o{count});

        if (!$more) {
            last if !%open;
            $last //= $time;
        }

        while ($more && keys(%open) < $most
               && ($n < ($time - $started) * $o{rate})
               && (!$o{count} || $n < $o{count}))
        {
            my ($gateway, $text, $tag) = $o{request}->($n++);
            my $one = connect_to($gateway, $text, $tag // '-');
            if ($one->{socket}) { $open{ fileno $one->{socket} } = $one }
            else { record($out, $one) }
        }

        # what could not be started in time is not caught up with

        if ($more && $n < ($time - $started) * $o{rate} - 50) {
            $started = $time - $n / $o{rate};
        }

        my ($read, $write) = ('', '');
        for my $fd (keys %open) {
            vec($read, $fd, 1) = 1;
            vec($write, $fd, 1) = 1 if length $open{$fd}{out};
        }

        my $next = $more ? $started + ($n + 1) / $o{rate} - now() : 0.1;
        $next = 0.001 if $next < 0.001;
        $next = 0.1 if $next > 0.1;
        my $ready = select $read, $write, undef, $next;

        for my $fd (keys %open) {
            my $one = $open{$fd};
            if ($ready > 0) {
                send_some($one) if length $one->{out} && vec($write, $fd, 1);
                read_some($one) if vec($read, $fd, 1);
            }
            $one->{error} //= 'timeout' if $time - $one->{start} > $timeout;
            if ($one->{ended} || $one->{error}) {
                record($out, $one);
                delete $open{$fd};
            }
        }
    }

    close $out;
    rename "$file.new", $file or die "$file: $!";
    return;
}

sub connect_to {
    my ($gateway, $text, $tag) = @_;
    my %one = (tag => $tag, gateway => $gateway->{name}, start => now(),
        out => $text, in => '');

    socket(my $socket, PF_INET, SOCK_STREAM, 0)
        or return { %one, error => "socket: $!" };
    fcntl $socket, F_SETFL, fcntl($socket, F_GETFL, 0) | O_NONBLOCK;

    if (!connect($socket, pack_sockaddr_in($gateway->{port},
            inet_aton('127.0.0.1'))) && $! != EINPROGRESS)
    {
        return { %one, error => "connect: $!" };
    }

    $one{socket} = $socket;
    return \%one;
}

sub send_some {
    my ($one) = @_;
    my $n = syswrite $one->{socket}, $one->{out};
    if (defined $n) { substr $one->{out}, 0, $n, '' }
    elsif ($! != EAGAIN && $! != EINTR) { $one->{error} = "write: $!" }
    return;
}

sub read_some {
    my ($one) = @_;
    my $n = sysread $one->{socket}, $one->{in}, 65536, length $one->{in};
    if (!defined $n) {
        return if $! == EAGAIN || $! == EINTR;
        $one->{error} = "read: $!";
    } elsif ($n == 0) {
        $one->{ended} = 1;
    } else {
        $one->{first} //= now();
    }
    return;
}

sub record {
    my ($out, $one) = @_;
    my $answer = parse($one->{in});
    my $h = $answer->{headers};
    my %row = (%$one, end => now(), status => $answer->{status},
        complete => $answer->{complete} ? 1 : 0,
        limits => $h->{'x-hybrid-limits'}, backend => $h->{'x-hybrid-backend'},
        fallback => $h->{'x-hybrid-fallback'}, retry => $h->{'retry-after'},
        reason => $h->{'x-hybrid-reason'}, worker => $h->{'x-worker'},
        length => length $answer->{body});
    $row{error} //= 'no answer' if !$answer->{status};
    print $out join("\t", map { $_ // '' } @row{@fields}), "\n";
    close $one->{socket} if $one->{socket};
    return;
}


package HybridRedis::Load;

sub stop {
    my ($self) = @_;
    kill 'TERM', $self->{pid};
    return $self->results;
}

sub results {
    my ($self) = @_;
    return $self->{results} if $self->{results};

    waitpid $self->{pid}, 0;
    delete $processes{ $self->{pid} };

    my @rows;
    for my $line (split /\n/, HybridRedis::slurp($self->{file})) {
        my %row;
        @row{@fields} = split /\t/, $line, -1;
        $row{time} = $row{end} - $row{start};
        push @rows, \%row;
    }
    return $self->{results} = \@rows;
}


package HybridRedis;

# -- what to say about the answers of a load

sub between {
    my ($rows, $from, $to) = @_;
    return [ grep { $_->{start} >= $from && $_->{end} <= $to } @$rows ];
}

sub admitted { return scalar grep { $_->{status} eq '200' } @{ $_[0] } }

# "200" => 12, "429" => 30, "0 read: reset" => 1 ...
sub numbers {
    my ($rows) = @_;
    my %n;
    for my $row (@$rows) {
        my $what = $row->{status} . ($row->{error} ? " $row->{error}" : '')
            . ($row->{complete} || !$row->{status} ? '' : ' incomplete');
        $n{$what}++;
    }
    return \%n;
}


# -- the end

# no alert, crit or emerg, and no error or warning that is not expected
sub log_is_clean {
    my ($gateway, @expected) = @_;
    local $Test::Builder::Level = $Test::Builder::Level + 1;
    my $log = slurp($gateway->{log});
    my @bad;

    # what goes with a Redis that was never there

    push @expected, qr/no revocations are known/
        if $log =~ /\[error\].*redis "/;

    for my $line (split /\n/, $log) {
        next if $line !~ /\[(?:alert|emerg|crit|error|warn)\]/
            && $line !~ /open socket|Sanitizer/;
        next if grep { $line =~ $_ } @expected;

        # who is refused on purpose; t/620-anomalies.t looks at these
        next if $line =~ /\[warn\].*: anomaly client_refused /;
        push @bad, $line;
    }

    my $output = slurp("$gateway->{home}/output");
    push @bad, $output if $output =~ /\S/
        && $output !~ /\A(?:nginx: \[warn\].*\n)*\z/;

    is(scalar @bad, 0, "$gateway->{name}: nothing unexpected in the error log");
    diag(join "\n", @bad[0 .. ($#bad < 9 ? $#bad : 9)]) if @bad;
    return !@bad;
}

# ends what still runs; ok when all of it ended by itself when told to
sub all_ended {
    local $Test::Builder::Level = $Test::Builder::Level + 1;
    my %left;

    for my $pid (keys %processes) {
        kill 'CONT', -$pid;
        kill $processes{$pid} =~ /^(?:backend|redis|load)/ ? 'TERM' : 'QUIT',
            $pid;
    }

    for my $pid (keys %processes) {
        my $what = $processes{$pid};
        ended($pid, $PATIENCE) or $left{$what} = 'does not end';

        # what it has started itself

        wait_until(sub { !kill 0, -$pid }, 5)
            or $left{$what} = 'has left processes';
        delete $processes{$pid} if !$left{$what};
    }

    is_deeply(\%left, {}, 'all processes have ended');
    return;
}

1;
