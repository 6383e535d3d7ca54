# The certificate that a backend is shown: the right one, and only there.

use strict;
use warnings;

use lib 't/lib';
use Hybrid;
use HybridTls;
use Test::More;
use Time::HiRes 'sleep';

my $t = Hybrid->new;
my $ca = HybridTls->ca($t, 'root');
my $inter = HybridTls->ca($t, 'inter', under => $ca);
my $other = HybridTls->ca($t, 'other');
my $alice = $t->token('alice');
my $gw = $ca->issue(subject => '/CN=b', san => [ 'DNS:b.test' ]);
my $plain = $t->backend('plain', models => 'next');
my $workers = 2;

my %cert = (one => $inter->issue(subject => '/CN=one', chain => 1),
            two => $ca->issue(subject => '/CN=two',
                              key => HybridTls::key($t, 'two')),
            bad => $other->issue(subject => '/CN=bad'));

$t->{as} = $alice;

# the files that are configured
sub put {
    my ($name, $text) = @_;
    $t->file("$name.new", $text);
    rename "$t->{dir}/$name.new", "$t->{dir}/$name" or die $!;
}

sub install {
    my ($name, $cert) = @_;
    put("$name.cert", Hybrid::_slurp($cert->{cert}));
    put("$name.pkey", Hybrid::_slurp($cert->{key}));
}

install($_, $cert{$_}) for keys %cert;

# backends that say who came, and how
sub tls_server {
    my ($port, $more) = @_;
    return <<"END";
    server {
        listen 127.0.0.1:$port ssl;
        ssl_certificate $gw->{cert};
        ssl_certificate_key $gw->{key};
        ssl_client_certificate $ca->{cert};
        ssl_verify_depth 3;
        ssl_session_cache shared:$port:1m;
        $more
        location / {
            add_header X-Seen "\$ssl_client_s_dn|\$ssl_protocol";
            add_header X-Reused \$ssl_session_reused;
            add_header X-Connection \$connection;
            return 200 '{}';
        }
    }
END
}

sub backend {
    my ($name, $port, $cert, $more) = @_;
    $cert = $cert ? "client_certificate $t->{dir}/$cert.cert "
                    . "$t->{dir}/$cert.pkey;" : '';
    $more //= '';

    # nginx leaves sessions that are not in a zone to its exit
    $more .= " zone $name 64k;" if $name eq 'zone' || $ENV{ASAN_OPTIONS};

    return "upstream $name { server 127.0.0.1:$port max_fails=0; $more }\n"
        . "hybrid_backend $name { pass https://$name; host b.test; $cert }\n"
        . "hybrid_route $name $name;\n";
}

my @servers = (
    tls_server('%PORT2%', 'ssl_verify_client on; ssl_protocols TLSv1.2;'),
    tls_server('%PORT3%', 'ssl_verify_client on; ssl_protocols TLSv1.3;'),
    tls_server('%PORT4%', 'ssl_verify_client optional;
                           ssl_protocols TLSv1.3;'));

my %conf = (workers => $workers, ca => $ca->{cert}, http => join "\n",
    "hybrid_client alice { $alice->{line} models *; }",
    backend('old', '%PORT2%', 'one'), backend('new', '%PORT3%', 'one'),
    backend('two', '%PORT3%', 'two'), backend('none', '%PORT4%'),
    backend('needs', '%PORT2%'), backend('bad', '%PORT2%', 'bad'),
    backend('kept', '%PORT3%', 'two', 'keepalive 4;'),
    backend('zone', '%PORT3%', 'one'),
    "hybrid_backend plain { pass http://$plain->{addr}; }",
    'hybrid_route * plain;',
    @servers, <<'END');
    log_format seen "$ssl_client_s_dn $request";
    server {
        listen 127.0.0.1:%PORT%;
        location / { hybrid_access token; include %PROXY%; }
    }
END

$t->start(%conf);

sub ask {
    my ($model) = @_;
    my $r = $t->post('/api/generate', { model => $model });
    my $seen = $r->{status} == 200 ? $r->{headers}{'x-seen'} : $r->{status};
    return wantarray ? ($seen, $r) : $seen;
}

sub lines { return scalar(() = $t->log('error.log') =~ /$_[0]/g) }


subtest 'who sees what' => sub {
    is ask('old'), 'CN=one|TLSv1.2', 'TLS 1.2, with its intermediate CA';
    is ask('new'), 'CN=one|TLSv1.3', 'TLS 1.3';
    is ask('two'), 'CN=two|TLSv1.3', 'another one';
    is ask('none'), '|TLSv1.3', 'none for one that only asks';
    is ask('needs'), 400, 'none for one that needs it';

    for my $round (1 .. 3) {
        my @seen = map { scalar ask($_) } qw(old none two new none);
        is_deeply \@seen, [ 'CN=one|TLSv1.2', '|TLSv1.3', 'CN=two|TLSv1.3',
                            'CN=one|TLSv1.3', '|TLSv1.3' ], "mixed, $round";
    }
};


subtest 'sessions and connections' => sub {
    for my $model (qw(old new zone)) {
        my %reused;

        for (1 .. 12) {
            my ($seen, $r) = ask($model);
            $reused{$r->{headers}{'x-reused'}}++;
            like $seen, qr/^CN=one\|/;
        }

        ok $reused{r}, "sessions of $model";
    }

    my %connection;

    for (1 .. 12) {
        my ($seen, $r) = ask('kept');
        $connection{$r->{headers}{'x-connection'}}++;
        is $seen, 'CN=two|TLSv1.3';
    }

    ok keys %connection < 12, 'connections';
};


subtest 'failover' => sub {
    my ($seen, $r) = ask('bad');
    ok $seen == 400 || $seen == 502, 'of another CA';

    # a backend that does not even shake hands
    my $python = <<'END';
import socket, ssl, sys
context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
context.load_cert_chain(sys.argv[1], sys.argv[2])
context.load_verify_locations(sys.argv[3])
context.verify_mode = ssl.CERT_REQUIRED
context.maximum_version = ssl.TLSVersion.TLSv1_2
server = socket.create_server(("127.0.0.1", 0))
with open(sys.argv[4], "w") as out:
    print(server.getsockname()[1], file=out, flush=True)
while True:
    plain = server.accept()[0]
    try:
        peer = context.wrap_socket(plain, server_side=True)
        peer.recv(65536)
        name = peer.getpeercert()["subject"][0][0][1]
        peer.sendall(b"HTTP/1.1 200 OK\r\nX-Seen: " + name.encode()
                     + b"\r\nContent-Length: 2\r\nConnection: close\r\n\r\n{}")
        peer.close()
    except (OSError, KeyError):
        plain.close()
END
    my $port_file = "$t->{dir}/strict.port";
    my $script = $t->file('strict.py', $python);
    Hybrid::_spawn($t->{dir}, "$t->{dir}/strict.out", 'python3', $script,
                   @$gw{qw(cert key)}, $ca->{cert}, $port_file);
    ok poll { -s $port_file }, 'there';
    my ($port) = Hybrid::_slurp($port_file) =~ /(\d+)/;

    my %more = %conf;
    $more{http} .= join "\n", backend('shut', $port, 'bad'),
        backend('open', $port, 'two'), 'hybrid_route alone shut;',
        'hybrid_route next shut plain;', 'hybrid_route twice shut open none;';
    ok $t->reload(%more), 'reload';
    poll { scalar ask('open') eq 'two' };
    is ask('open'), 'two', 'the right one';
    is ask('alone'), 502, 'a wrong one: no handshake';
    ($seen, $r) = ask('next');
    is "$r->{status} $r->{headers}{'x-hybrid-backend'}", '200 plain',
       'the next, without TLS';
    ($seen, $r) = ask('twice');
    is "$seen $r->{headers}{'x-hybrid-backend'}", 'two open',
       'the next at the same address, with its own';
};


subtest 'a change' => sub {
    my $new = $ca->issue(subject => '/CN=three',
                         key => HybridTls::key($t, 'three'));
    my $fits = qr{\[notice\] .*key "\Q$t->{dir}\E/two\.pkey" is not that of};
    my $used = qr{\[notice\] .*certificate "\Q$t->{dir}\E/two\.cert" has chan};

    put('two.cert', Hybrid::_slurp($new->{cert}));
    ok poll { lines($fits) >= $workers }, 'a certificate without its key';
    is ask('two'), 'CN=two|TLSv1.3', 'the old pair';

    # three backends have it
    put('two.pkey', Hybrid::_slurp($new->{key}));
    ok poll { lines($used) >= 3 * $workers }, 'and its key';
    is ask('two'), 'CN=three|TLSv1.3', 'the new pair' for 1 .. 8;
    is ask('new'), 'CN=one|TLSv1.3', 'others as before';

    # renewed with the same key; sessions of the old one are not resumed
    my $again = $ca->issue(subject => '/CN=four', key => $new->{key});
    put('two.cert', Hybrid::_slurp($again->{cert}));
    ok poll { lines($used) >= 6 * $workers }, 'renewed';
    is ask('two'), 'CN=four|TLSv1.3', 'at once' for 1 .. 8;

    my %bad = ('two.cert' => 'has no certificate, or a broken one, in PEM, ',
               'two.pkey' => 'has no key in PEM, or one with a password, ');

    for my $name (sort keys %bad) {
        put($name, "-----BEGIN CERTIFICATE-----\nnothing\n");
        ok poll { lines(qr/\[warn\] .*\Q$name" $bad{$name}\Ethe old one/) },
           "$name is broken";
        is ask('two'), 'CN=four|TLSv1.3', 'the old one stays';
    }
};


subtest 'nginx -t' => sub {
    my $x = Hybrid->new;
    my %file = map { $_ => "$t->{dir}/one.$_" } qw(cert pkey);
    my $locked = "$t->{dir}/locked.key";
    $t->run(qw(openssl pkey -aes256 -passout pass:x -in), $cert{one}{key},
            '-out', $locked);
    $t->file('empty', '');

    my $refused = sub {
        my ($name, $is, $backends, $more) = @_;
        my $text = $x->start_fails(http => "hybrid_client a { $alice->{line} "
            . "models *; }\nhybrid_route * a;\n$backends", ca => $ca->{cert},
            %{$more || {}});
        ok(($text // 'accepted') =~ /\[emerg\].*\Q$is\E.* in \S+:\d+$/m, $name)
            or diag $text // 'accepted';
    };
    my $with = sub {
        my ($name, $cert, $pass, $host) = @_;
        $pass //= 'https://127.0.0.1:1';
        return "hybrid_backend $name { pass $pass; host b.test; "
               . ($cert ? "client_certificate $cert; " : '') . "}\n";
    };
    my $pair = "$file{cert} $file{pkey}";

    is $x->start_fails(http => "hybrid_client a { $alice->{line} models *; }\n"
        . "hybrid_route * a;\n" . $with->('a', $pair) . $with->('b', $pair),
        ca => $ca->{cert}), undef, 'a good one, twice';

    $refused->('no such file', 'open() "/none" failed',
               $with->('a', "/none $file{pkey}"));
    $refused->('no certificate', 'has no certificate, or a broken one',
               $with->('a', "$t->{dir}/empty $file{pkey}"));
    $refused->('no key', 'has no key in PEM, or one with a password',
               $with->('a', "$file{cert} $file{cert}"));
    $refused->('a password', 'has no key in PEM, or one with a password',
               $with->('a', "$file{cert} $locked"));
    $refused->('another key', 'is not that of certificate',
               $with->('a', "$file{cert} $t->{dir}/bad2.pkey"))
        if $t->file('bad2.pkey', Hybrid::_slurp($cert{two}{key}));
    $refused->('twice', '"client_certificate" directive is duplicate',
               $with->('a', "$pair; client_certificate $pair"));
    $refused->('one argument', 'invalid number of arguments in',
               $with->('a', $file{cert}));
    $refused->('no TLS', 'has a "client_certificate", so its "pass" must be',
               $with->('a', $pair, 'http://127.0.0.1:1'));
    $refused->('one has none', 'but not its TLS identity',
               $with->('a', $pair) . $with->('b'));
    $refused->('another one', 'but not its TLS identity', $with->('a', $pair)
               . $with->('b', "$cert{two}{cert} $cert{two}{key}"));
    $refused->('no sessions', 'so it must be "proxy_ssl_session_reuse on"',
               $with->('a', $pair),
               { location => 'proxy_ssl_session_reuse off;' });
};


$t->done;
