package Hybrid;

# A gateway and mock backends for tests that drive several processes.
#
#   use lib 't/lib';
#   use Hybrid;
#
#   my $t = Hybrid->new;                       # temporary directory
#   my $forge = $t->backend('forge', models => 'a,b');     # demo/backend.py
#   my $alice = $t->token('alice');
#
#   $t->start(workers => 2, http => <<"END");
#       hybrid_client alice { $alice->{line} models *; }
#       hybrid_backend forge { pass http://$forge->{addr}; models a b; }
#       hybrid_route * forge;
#   END
#
#   my $r = $t->post('/api/chat', { model => 'a' }, as => $alice);
#   is $r->{status}, 200;
#   is $forge->last->{body_sha256}, Hybrid::sha256($sent);
#   $t->done;                       # stops all, looks at error.log, the plan
#
# new
#   The directory ($t->{dir}, absolute) is in the current one and goes with
#   the object's process; $t->file(NAME, TEXT) writes one there (mode 600)
#   and gives its path.
#
# backend NAME, OPTION => VALUE...
#   Options are those of backend.py (models, tokens, token_ms => ...), and
#   tls => CERT from $t->cert.  Fields: name, port, addr ("127.0.0.1:port").
#   requests  what it was asked, without the control API; last: the last one,
#             a hash with method, target, headers ([[name, value]...]), body,
#             body_sha256, body_length, connection, tls, sni, and "header", a
#             hash by lower-case name ("a, b" when it came twice)
#   clear     forgets the requests and the behaviour
#   behave    sets faults: $b->behave(status => 503, times => 1); they hit
#             probes too with probes => 1, or them alone with probes => 'only'
#   probes    as requests, what a gateway's probes asked
#   models    it has these from now on: names, or a hash of more for their
#             entries; loaded: a hash, the seconds that they stay loaded
#   answers   word by word: $b->answers('/api/tags' => { body => '{' });
#             also status, headers, delay_ms, before, repeat, after
#   deaf      $b->deaf(SECONDS): nothing reaches it, and nobody is told so
#   stats     the counters; wait(sub { $_->{active} == 0 }) until they fit
#   stop, start   the same port again
#
# token CLIENT [, NAME => VALUE...]
#   line (the "token" statement), id, secret, bearer, pair (both headers).
#
# ca, cert CA, NAME...  (openssl)
#   A CA and a certificate it signs for these DNS names: hashes of file names
#   with cert and key.
#
# start http => TEXT, OPTION => VALUE...
#   nginx with this in http{}; %PORT%, %PORT2%... are free ports of 127.0.0.1
#   and $t->port, $t->port(2) tells them; %DIR% the directory, %PROXY% a copy
#   of conf/hybrid_proxy.conf.  When the text has no server block there is one
#   with "location / { hybrid_access token; include hybrid_proxy.conf; }".
#   workers (1), server, location: more text for that server and location;
#   main: text outside of http{}, also a "user" to take the place of root;
#   ca: file for proxy_ssl_trusted_certificate;
#   proxy: a sub that changes the copy of hybrid_proxy.conf in $_;
#   conf: a whole configuration instead of http, as HybridConf makes it.
# start_fails http => TEXT: the error messages of "nginx -t", for a
#   configuration that is refused; undef when it is accepted.
# stop; reload OPTION => VALUE... (HUP, with a new configuration when there are
#   options; the ports stay; true when the new workers are there).
# {pid}: nginx's master; log(NAME): text of a file in the directory (access.log
#   and error.log at "info" by default); wait_log(NAME, REGEX [, COUNT]) waits
#   for so many matches and gives the text, undef when they do not come.
#   log_line(NAME, N) waits for the Nth line of a log in JSON, tests that it is
#   the last one, and gives it decoded.
#
# get PATH, OPTION...; post PATH, CONTENT, OPTION...; request METHOD, PATH,...
#   as: a token; headers: a hash; content: bytes, a hash (sent as JSON) or a
#   sub (chunked: called until it gives undef or ''); port; timeout.
#   Gives status, reason, headers (lower-case), content, and json if it is
#   some.  A connection that breaks has status 599.  {as} of the object is the
#   default for "as"; as => undef sends no credential.
#
# raw BYTES, OPTION...
#   Sends bytes (or a list of pieces, each in a write of its own) and reads
#   until the other side closes or "until" (a regex) matches.  open, send,
#   read_until do that step by step: $s = $t->open; $s->send; ...
#   auth_lines(TOKEN) gives the header lines of a token, with CRLFs.
#
# run COMMAND, ARGUMENT...: what it writes; {rc} of the object is its status.
#
# poll { ... } [SECONDS]: true as soon as the block is; within 20 s.
# done: stops everything, tests that nginx was well, done_testing.

use strict;
use warnings;

use Cwd ();
use Digest::SHA ();
use Exporter 'import';
use File::Basename ();
use File::Path ();
use File::Temp ();
use HTTP::Tiny;
use IO::Select;
use IO::Socket::INET;
use JSON::PP ();
use POSIX ();
use Socket qw(IPPROTO_TCP TCP_NODELAY);
use Test::More;
use Time::HiRes qw(sleep time);

our @EXPORT = qw(poll);
our $ROOT = $ENV{HYBRID_ROOT} || Cwd::getcwd();
our $MODULE = $ENV{TEST_NGINX_LOAD_MODULES}
              || "$ROOT/build/ngx_http_hybrid_module.so";
our $NGINX = $ENV{TEST_NGINX_BINARY} || '/usr/sbin/nginx';
our $VALGRIND = $ENV{TEST_NGINX_USE_VALGRIND} || '';

# generous: it only ends what would never come
our $PATIENCE = $VALGRIND ? 90 : 30;

my %children;                  # pid => the process that started it
my $json = JSON::PP->new->utf8->allow_nonref->canonical;

# a report of a sanitizer says whose it is
$ENV{ASAN_OPTIONS} =~ s{(/log/)report\b}{$1 . File::Basename::basename($0)}e
    if $ENV{ASAN_OPTIONS};

$SIG{PIPE} = 'IGNORE';

for my $signal (qw(INT TERM HUP)) {
    $SIG{$signal} = sub { exit 130 };      # END cleans up
}


sub poll(&;$) {
    my ($code, $seconds) = @_;
    my $end = time() + ($seconds || $PATIENCE);

    for (;;) {
        my $value = $code->();
        return $value if $value;
        return $value if time() > $end;
        sleep 0.02;
    }
}


sub sha256 { Digest::SHA::sha256_hex($_[0]) }
sub encode { $json->encode($_[0]) }
sub decode { $json->decode($_[0]) }


sub new {
    my ($class) = @_;

    my $dir = File::Temp::tempdir('hybrid.XXXXXX', DIR => Cwd::getcwd(),
                                  CLEANUP => 1);
    return bless { dir => $dir, backends => [], tokens => 0, owner => $$ },
                 $class;
}


sub file {
    my ($t, $name, $text) = @_;
    my $path = "$t->{dir}/$name";

    CORE::open(my $fh, '>:raw', $path) or die "$path: $!";
    chmod 0600, $path;
    print $fh $text;
    CORE::close($fh) or die "$path: $!";

    return $path;
}


sub _slurp {
    my ($path) = @_;
    CORE::open(my $fh, '<:raw', $path) or return '';
    local $/;
    return scalar <$fh> // '';
}


# -- processes

sub _spawn {
    my ($dir, $output, @command) = @_;
    my $pid = fork // die "fork: $!";

    if ($pid == 0) {
        %children = ();
        CORE::open(STDIN, '<', '/dev/null');
        CORE::open(STDOUT, '>>', $output);
        CORE::open(STDERR, '>>', $output);
        chdir $dir;
        { no warnings; exec @command; }
        POSIX::_exit(127);
    }

    $children{$pid} = $$;
    return $pid;
}


sub _alive {
    my ($pid) = @_;
    return 0 if !$children{$pid};
    return 1 if waitpid($pid, POSIX::WNOHANG()) == 0;
    delete $children{$pid};
    return 0;
}


# true when it ended by itself after the signal
sub _end {
    my ($pid, $signal, $seconds) = @_;
    return 1 if !_alive($pid);

    kill $signal, $pid;
    return 1 if poll { !_alive($pid) } $seconds || $PATIENCE;

    kill KILL => $pid;
    poll { !_alive($pid) } 10;
    return 0;
}


END {
    local $?;
    my @mine = grep { $children{$_} == $$ } keys %children;
    my @workers = map { _workers($_) } @mine;

    kill TERM => @mine if @mine;
    poll { !grep { _alive($_) } @mine } 5;

    for my $pid (grep { _alive($_) } @mine) {
        kill KILL => $pid;
        waitpid $pid, 0;
    }

    # workers of a master that had to be killed
    for my $pid (@workers) {
        my $name = _slurp("/proc/$pid/cmdline");
        kill KILL => $pid if $name =~ /nginx: worker|valgrind/;
    }
}


sub _workers {
    my ($pid) = @_;
    my $list = _slurp("/proc/$pid/task/$pid/children");

    # there a process keeps the name it was started with
    return split ' ', $list if $VALGRIND;

    return grep { _slurp("/proc/$_/cmdline") =~ /worker process(?! is)/ }
           split ' ', $list;
}


# -- backends

sub backend {
    my ($t, $name, %options) = @_;

    my $b = bless { name => $name, dir => $t->{dir}, port => 0,
                    scheme => 'http' }, 'Hybrid::Backend';

    if (my $cert = delete $options{tls}) {
        @options{qw(tls_cert tls_key)} = @$cert{qw(cert key)};
        $b->{scheme} = 'https';
    }

    for my $option (sort keys %options) {
        (my $word = $option) =~ tr/_/-/;
        push @{$b->{options}}, "--$word", $options{$option};
    }

    $b->start;
    push @{$t->{backends}}, $b;

    return $b;
}


# a port that nobody listens at, for a backend that is off
sub closed_port {
    my ($t) = @_;
    my $s = IO::Socket::INET->new(LocalAddr => '127.0.0.1', LocalPort => 0,
                                  Proto => 'tcp') or die "bind: $!";
    push @{$t->{closed}}, $s;    # bound, never listening: nobody else's
    return $s->sockport;
}


{
    package Hybrid::Backend;

    use POSIX ();

    sub start {
        my ($b) = @_;
        my $file = "$b->{dir}/$b->{name}.port";

        unlink $file;
        $b->{pid} = Hybrid::_spawn($b->{dir}, "$b->{dir}/$b->{name}.out",
            'python3', "$Hybrid::ROOT/conf/demo/backend.py",
            '--listen', "127.0.0.1:$b->{port}", '--name', $b->{name},
            '--port-file', $file, @{$b->{options} || []});

        my $there = Hybrid::poll {
            -s $file || !Hybrid::_alive($b->{pid})
        };

        if (!$there || !-s $file) {
            die "backend $b->{name} does not start: "
                . Hybrid::_slurp("$b->{dir}/$b->{name}.out");
        }

        ($b->{port}) = Hybrid::_slurp($file) =~ /(\d+)/;
        $b->{addr} = "127.0.0.1:$b->{port}";

        return $b;
    }

    sub stop {
        my ($b) = @_;
        Hybrid::_end(delete $b->{pid}, 'KILL') if $b->{pid};
    }

    sub control {
        my ($b, $method, $path, $value) = @_;

        my $http = HTTP::Tiny->new(timeout => $Hybrid::PATIENCE,
            keep_alive => 0, http_proxy => undef, https_proxy => undef,
            all_proxy => undef, verify_SSL => 0);
        my $r = $http->request($method,
            "$b->{scheme}://$b->{addr}/_mock/$path",
            defined $value ? { content => Hybrid::encode($value) } : {});

        die "$b->{name}: $method $path: $r->{status} $r->{content}"
            if $r->{status} != 200;

        return length $r->{content} ? Hybrid::decode($r->{content}) : undef;
    }

    sub requests {
        my ($b, $what) = @_;
        my @requests = @{$b->control('GET', $what || 'requests')};

        for my $r (@requests) {
            for my $h (@{$r->{headers}}) {
                my $name = lc $h->[0];
                $r->{header}{$name} = exists $r->{header}{$name}
                    ? "$r->{header}{$name}, $h->[1]" : $h->[1];
            }
        }

        return @requests;
    }

    sub probes { return $_[0]->requests('probes') }

    sub models {
        my ($b, @models) = @_;
        $b->control('POST', 'models', ref $models[0] ? $models[0] : \@models);
    }

    sub loaded {
        my ($b, %loaded) = @_;
        $b->control('POST', 'loaded', \%loaded);
    }

    sub answers {
        my ($b, %answers) = @_;
        $b->control('POST', 'answers', \%answers);
    }

    sub last { my ($b) = @_; my @r = $b->requests; return $r[-1] || {} }
    sub stats { $_[0]->control('GET', 'stats') }

    sub behave {
        my ($b, %fault) = @_;
        $b->control('POST', 'behave', \%fault);
    }

    sub deaf {
        my ($b, $seconds) = @_;
        $b->control('POST', 'deaf', { seconds => $seconds });
    }

    sub clear {
        my ($b) = @_;
        $b->control('DELETE', 'requests');
        $b->control('DELETE', 'probes');
        $b->behave;
    }

    sub wait {
        my ($b, $test) = @_;
        return Hybrid::poll { local $_ = $b->stats; $test->() };
    }
}


# -- secrets

sub token {
    my ($t, $client, %more) = @_;

    my $id = $more{id}
             || sprintf('%s-%d.access', $client, ++$t->{tokens});
    my $secret = $more{secret} || sha256(join ' ', $$, rand, $id);
    my $until = $more{until} ? " until=$more{until}" : '';

    return {
        client => $client, id => $id, secret => $secret,
        line => "token $id sha256:" . sha256($secret) . "$until;",
        bearer => "Bearer $id:$secret",
        pair => { 'CF-Access-Client-Id' => $id,
                  'CF-Access-Client-Secret' => $secret },
    };
}


sub auth_lines {
    my ($t, $token) = @_;
    $token ||= $t->{as};
    return "Authorization: $token->{bearer}\r\n";
}


sub run {
    my ($t, @command) = @_;
    my $file = "$t->{dir}/run." . ++$t->{runs};

    # in the same file: standard error tells why
    my $pid = _spawn($t->{dir}, $file, @command);
    waitpid $pid, 0;
    $t->{rc} = $?;
    delete $children{$pid};

    return _slurp($file);
}


sub _openssl {
    my ($t, @args) = @_;
    unlink "$t->{dir}/openssl.out";
    my $pid = _spawn($t->{dir}, "$t->{dir}/openssl.out", 'openssl', @args);
    waitpid $pid, 0;
    my $rc = $?;
    delete $children{$pid};
    die "openssl @args: " . _slurp("$t->{dir}/openssl.out") if $rc;
}


sub ca {
    my ($t, $name) = @_;
    my $file = "$t->{dir}/" . ($name || 'ca');

    $t->_openssl(qw(req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256
                    -nodes -days 3 -subj), '/CN=Test CA ' . ($name || ''),
                 '-keyout', "$file.key", '-out', "$file.pem");

    return { cert => "$file.pem", key => "$file.key" };
}


sub cert {
    my ($t, $ca, @names) = @_;
    my $file = "$t->{dir}/cert." . ++$t->{certs};
    my $san = join ',', map { /^[\d.]+$/ ? "IP:$_" : "DNS:$_" } @names;

    $t->file("cert.$t->{certs}.ext", "subjectAltName=$san\n");
    $t->_openssl(qw(req -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes
                    -subj), "/CN=$names[0]", '-keyout', "$file.key",
                 '-out', "$file.csr");
    $t->_openssl(qw(x509 -req -days 3 -CAcreateserial -in), "$file.csr",
                 '-CA', $ca->{cert}, '-CAkey', $ca->{key},
                 '-extfile', "$file.ext", '-out', "$file.pem");

    return { cert => "$file.pem", key => "$file.key" };
}


# -- nginx

# below the range that outgoing connections take theirs from
sub _free_port {
    for (1 .. 200) {
        my $port = 10000 + int rand 22000;
        my $s = IO::Socket::INET->new(LocalAddr => '127.0.0.1',
            LocalPort => $port, Proto => 'tcp', Listen => 1) or next;
        CORE::close($s);
        return $port;
    }

    die 'no free port';
}


sub port { my ($t, $n) = @_; return $t->{ports}{$n || 1} }


sub _configure {
    my ($t, %o) = @_;
    my $http = $o{http} // '';

    local $_ = _slurp("$ROOT/conf/hybrid_proxy.conf");
    s{^(proxy_ssl_trusted_certificate) .*;}{$1 $o{ca};}m if $o{ca};
    $o{proxy}->() if $o{proxy};
    my $proxy = $t->file('hybrid_proxy.conf', $_);

    if ($http !~ /^\s*server\s*\{/m) {
        $http .= "server {\n"
            . ($o{server} // '') . "\n"
            . (($o{server} // '') =~ /\blisten\b/ ? ''
               : "listen 127.0.0.1:%PORT%;\n")
            . "location / {\nhybrid_access token;\n"
            . ($o{location} // '') . "\n"
            . "include %PROXY%;\n}\n}\n";
    }

    my $workers = $o{workers} || 1;
    my $main = $o{main} // '';
    my $user = $> == 0 && $main !~ /^\s*user\b/m ? 'user root;' : '';
    my $access = $http =~ /^\s*access_log\b/m ? ''
                 : 'access_log access.log combined;';
    my $base = join "\n", map { "${_}_temp_path tmp_$_;" }
               qw(client_body proxy fastcgi uwsgi scgi);

    my $text = $o{conf} // <<"END";
load_module "$MODULE";
$user
daemon off;
worker_processes $workers;
pid nginx.pid;
error_log error.log info;
$main
events { worker_connections 1024; }
http {
$base
$access
$http
}
END

    $t->{ports} = {} if !$o{keep_ports};
    $text =~ s/%PORT(\d*)%/$t->{ports}{$1 || 1} ||= _free_port()/ge;
    $text =~ s/%DIR%/$t->{dir}/g;
    $text =~ s/%PROXY%/$proxy/g;

    # paths that are not absolute belong into the directory
    $text =~ s{\b(access_log|error_log|pid|\w+_temp_path) (?![/"]|off|syslog)}
              {$1 $t->{dir}/}g;

    return $t->file('nginx.conf', $text);
}


sub start {
    my ($t, %o) = @_;

    for my $try (1 .. 5) {
        my $conf = $t->_configure(%o);
        my @command = ($NGINX, '-p', "$t->{dir}/", '-c', $conf,
                       '-e', "$t->{dir}/error.log");

        if ($VALGRIND) {
            my @options = $VALGRIND eq '1' ? '-q' : split ' ', $VALGRIND;
            unshift @command, 'valgrind', @options;
        }

        unlink "$t->{dir}/nginx.pid";
        $t->{options} = \%o;
        local $ENV{LD_PRELOAD} = $ENV{TEST_NGINX_LD_PRELOAD}
            if $ENV{TEST_NGINX_LD_PRELOAD};
        $t->{pid} = _spawn($t->{dir}, "$t->{dir}/nginx.out", @command);

        return $t if poll { !_alive($t->{pid}) || $t->_ready }
                     and _alive($t->{pid});

        my $text = $t->log('error.log') . $t->log('nginx.out');
        _end(delete $t->{pid}, 'KILL');

        if ($text =~ /Address already in use/ && $try < 5) {
            unlink "$t->{dir}/error.log", "$t->{dir}/nginx.out";
            next;
        }

        die "nginx does not start: $text";
    }
}


sub _ready {
    my ($t) = @_;

    for my $port (values %{$t->{ports}}) {
        my $s = IO::Socket::INET->new(PeerAddr => '127.0.0.1',
            PeerPort => $port, Proto => 'tcp', Timeout => 2) or return 0;
        CORE::close($s);
    }

    return -s "$t->{dir}/nginx.pid"
           && _workers($t->{pid}) >= ($t->{options}{workers} || 1);
}


sub start_fails {
    my ($t, %o) = @_;
    my $conf = $t->_configure(%o);

    # nginx does not tidy up when it refuses a configuration
    local $ENV{ASAN_OPTIONS} = "$ENV{ASAN_OPTIONS},detect_leaks=0"
        if $ENV{ASAN_OPTIONS};

    unlink "$t->{dir}/test.out";
    my $pid = _spawn($t->{dir}, "$t->{dir}/test.out", $NGINX, '-t',
                     '-p', "$t->{dir}/", '-c', $conf,
                     '-e', "$t->{dir}/test.err");
    waitpid $pid, 0;
    my $rc = $?;
    delete $children{$pid};

    return $rc ? $t->log('test.out') : undef;
}


sub reload {
    my ($t, %o) = @_;
    my %old = map { $_ => 1 } _workers($t->{pid});

    if (%o) {
        $t->{options} = \%o;
        $t->_configure(%o, keep_ports => 1);
    }

    kill HUP => $t->{pid};

    return poll {
        my @new = grep { !$old{$_} } _workers($t->{pid});
        @new >= ($t->{options}{workers} || 1) && $t->_ready;
    };
}


sub stop {
    my ($t) = @_;
    my $pid = delete $t->{pid} or return 1;

    # QUIT: workers that leave tell of connections they have lost
    return _end($pid, 'QUIT');
}


sub log { my ($t, $name) = @_; return _slurp("$t->{dir}/$name") }


sub wait_log {
    my ($t, $name, $regex, $count) = @_;
    my $text;

    return $text if poll {
        $text = $t->log($name);
        (() = $text =~ /$regex/g) >= ($count || 1);
    };

    return undef;
}


sub log_line {
    my ($t, $name, $n) = @_;
    my @lines;

    poll { (@lines = split /\n/, $t->log($name)) >= $n };
    is scalar @lines, $n, 'one line';
    return decode($lines[-1]);
}


sub done {
    my ($t) = @_;
    my $ended = $t->stop;
    my $text = $t->log('error.log');
    my @bad = grep { /\[(?:alert|crit|emerg)\]|exited on signal|\bASan\b/ }
              split /\n/, $text;

    @bad = grep { my $line = $_; !grep { $line =~ $_ } @{$t->{expected}} }
           @bad;

    ok $ended, 'nginx leaves when it is told to';
    is join("\n", @bad), '', 'no alert in the error log';

    $_->stop for @{$t->{backends}};

    done_testing();
}


# a pattern of alerts in the error log that a test provokes
sub expect_log { my ($t, $regex) = @_; push @{$t->{expected}}, $regex }


# -- HTTP

sub request {
    my ($t, $method, $path, %o) = @_;
    my %headers = %{$o{headers} || {}};
    my $as = exists $o{as} ? $o{as} : $t->{as};
    my %args;

    $headers{Authorization} //= $as->{bearer} if $as;

    if (defined $o{content}) {
        $args{content} = $o{content};

        if (ref $o{content} eq 'HASH') {
            $args{content} = encode($o{content});
            $headers{'Content-Type'} //= 'application/json';
        }
    }

    $args{headers} = \%headers;

    my $http = HTTP::Tiny->new(timeout => $o{timeout} || $PATIENCE,
        keep_alive => 0, max_redirect => 0, http_proxy => undef,
        https_proxy => undef, all_proxy => undef, agent => 'hybrid-test');
    my $port = $o{port} || $t->port;
    my $r = $http->request($method, "http://127.0.0.1:$port$path", \%args);

    $r->{json} = eval { decode($r->{content}) };

    return $r;
}


sub get { my ($t, $path, @o) = @_; return $t->request('GET', $path, @o) }


sub post {
    my ($t, $path, $content, @o) = @_;
    return $t->request('POST', $path, content => $content, @o);
}


sub open {
    my ($t, %o) = @_;
    my $s = IO::Socket::INET->new(PeerAddr => '127.0.0.1', Proto => 'tcp',
        PeerPort => $o{port} || $t->port, Timeout => $PATIENCE)
        or die "connect: $!";

    setsockopt $s, IPPROTO_TCP, TCP_NODELAY, 1;

    return bless { socket => $s, buffer => '' }, 'Hybrid::Socket';
}


sub raw {
    my ($t, $bytes, %o) = @_;
    my $s = $t->open(%o);

    $s->send($_) for ref $bytes ? @$bytes : $bytes;

    my $text = $s->read_until($o{until});
    $s->close;

    return $text;
}


{
    package Hybrid::Socket;

    use Time::HiRes qw(time);

    # all of it, unless the other side has gone
    sub send {
        my ($s, @pieces) = @_;

        for my $piece (@pieces) {
            my $sent = 0;

            while ($sent < length $piece) {
                my $n = syswrite $s->{socket}, $piece,
                                 length($piece) - $sent, $sent;
                return 0 if !defined $n;
                $sent += $n;
            }
        }

        return 1;
    }

    # what has come when the regex matches, the other side closes ({eof}) or
    # resets ({error}), or nothing comes any more ({timeout})
    sub read_until {
        my ($s, $regex, $seconds) = @_;
        my $end = time() + ($seconds || $Hybrid::PATIENCE);
        my $select = IO::Select->new($s->{socket});

        until (defined $regex && $s->{buffer} =~ $regex) {
            my $left = $end - time();

            if ($left <= 0 || !$select->can_read($left)) {
                $s->{timeout} = 1;
                last;
            }

            my $n = sysread $s->{socket}, $s->{buffer}, 65536,
                            length $s->{buffer};

            if (!$n) {
                $s->{defined $n ? 'eof' : 'error'} = 1;
                last;
            }
        }

        return $s->{buffer};
    }

    # ends our side, the other may still talk
    sub shut { shutdown $_[0]{socket}, 1 }
    sub close { CORE::close($_[0]{socket}) }

    # a reset instead of an orderly end
    sub reset {
        my ($s) = @_;
        setsockopt $s->{socket}, Socket::SOL_SOCKET(), Socket::SO_LINGER(),
                   pack 'ii', 1, 0;
        CORE::close($s->{socket});
    }
}


1;
