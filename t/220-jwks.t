# Key sets that are fetched over https: by one worker for all, again before
# they are old, kept while the server is away, and never in a request's way.

use strict;
use warnings;

use lib 't/lib';
use Hybrid;
use HybridJwt;
use HybridOdd;
use Test::More;
use Time::HiRes qw(sleep time);

my $t = Hybrid->new;
my $b = $t->backend('b', models => 'm');
my $ca = $t->ca;
my $cert = $t->cert($ca, '127.0.0.1', 'localhost', 'keys.test');
my $idp = HybridOdd->new($t, 'idp', tls => $cert);
my ($k1, $k2, $k3) = map { HybridJwt->key('ES256', kid => "k$_") } 1 .. 3;
my $url = "https://$idp->{addr}/certs";

sub conf {
    my (%o) = @_;
    my $refresh = $o{refresh} // '1h';
    my $from = $o{url} // $url;
    my $http = $o{http} // '';
    return <<"END";
hybrid_zone 1m;
$http
hybrid_issuer idp {
    issuer https://issuer.test;
    audience gateway;
    jwks $from;
    trusted_certificate $ca->{cert};
    algorithms ES256;
    refresh $refresh;
}
hybrid_client alice { jwt idp sub=alice; models *; }
hybrid_backend b { pass http://$b->{addr}; models m; }
hybrid_route * b;
server {
    listen 127.0.0.1:%PORT%;
    add_header X-Worker "\$pid" always;
    location / { hybrid_access jwt; include %PROXY%; }
    location = /status { hybrid_status json; }
    location = /metrics { hybrid_status prometheus; }
}
END
}

sub ask {
    my ($jwt) = @_;
    return $t->get('/api/version', headers => {
        Authorization => "Bearer $jwt" });
}

sub shown { return $t->get('/status')->{json}{issuers}[0] }
sub good { my ($key, %o) = @_; return $key->mint(claims(%o)) }
sub count { return scalar(() = $idp->requests) }

sub serve {
    my ($set, @headers) = @_;
    $idp->clear;
    return $idp->answer(200, $set, 'Content-Type' => 'application/json',
                        @headers);
}

# from each worker, by new connections
sub workers {
    my ($n, $sub) = @_;
    my %seen;
    poll {
        my $r = $sub->();
        $seen{$r->{headers}{'x-worker'}}{$r->{status}}++;
        keys %seen == $n;
    };
    return join ' ', sort map { sort keys %$_ } values %seen;
}


subtest 'one fetch for all workers' => sub {
    serve(jwks($k1));
    $t->start(workers => 4, http => conf());
    ok(poll { shown()->{keys} }, 'soon there');

    my $jwt = good($k1);
    is(workers(4, sub { ask($jwt) }), '200 200 200 200', 'each verifies');

    my @r = $idp->requests;
    is(scalar @r, 1, 'one request');
    is($r[0]{line}, 'GET /certs HTTP/1.1', 'its line');
    is($r[0]{header}{host}, $idp->{addr}, 'Host');
    is($r[0]{header}{connection}, 'close', 'Connection');
    is($r[0]{header}{'if-none-match'}, undef, 'no condition');

    my $shown = shown();
    is($shown->{name}, 'idp', 'status: name');
    is($shown->{jwks}, $url, 'URL');
    is($shown->{keys}, 1, 'keys');
    is($shown->{failures}, 0, 'no failures');
    is($shown->{error}, '', 'no error');
    cmp_ok($shown->{age_seconds}, '<', 60, 'age');
    cmp_ok($shown->{next_seconds}, '<=', 3600 * .9, 'next, ahead of time');
    cmp_ok($shown->{next_seconds}, '>', 3600 * .75, 'not too early');

    my $metrics = $t->get('/metrics')->{content};
    like($metrics, qr/^ngx_hybrid_jwks_keys\{issuer="idp"\} 1$/m, 'keys');
    like($metrics, qr/^ngx_hybrid_jwks_age_seconds\{issuer="idp"\} \d+$/m,
         'age');
    like($metrics, qr/^ngx_hybrid_jwks_failures\{issuer="idp"\} 0$/m,
         'failures');

    # away, and a reload: the set is in the zone

    $idp->stop;
    ok($t->reload(workers => 4, http => conf()), 'reload');
    is(workers(4, sub { ask($jwt) }), '200 200 200 200', 'the keys are kept');
    is(ask(good($k2))->{status}, 401, 'other keys are not');

    ok($t->reload(workers => 2, http => conf(refresh => '1s stale=1h')),
       'reload with a shorter time');
    ok(poll { shown()->{failures} > 1 }, 'it is asked sooner');
    is(workers(2, sub { ask($jwt) }), '200 200', 'the keys are kept');

    $idp->start;
    ok(poll { !shown()->{failures} }, 'back');
    $t->stop;
};


# the old time is an hour, and the last try was less than the new one ago
subtest 'a reload with a shorter time, at once' => sub {
    serve(jwks($k1));
    $t->start(workers => 1, http => conf());
    ok(poll { shown()->{keys} }, 'there');
    ok($t->reload(workers => 1, http => conf(refresh => '6s')), 'reload');
    ok(poll { $idp->requests > 1 }, 'it is asked again');
    $t->stop;
};


subtest 'rotation' => sub {
    serve(jwks($k1, $k2));
    $t->start(workers => 2, http => conf(refresh => '2s cooldown=1h'));
    ok(poll { shown()->{keys} == 2 }, 'two keys');

    my ($one, $two, $three) = map { good($_) } $k1, $k2, $k3;
    is(workers(2, sub { ask($_) }), '200 200', 'are used') for $one, $two;
    is(ask($three)->{status}, 401, 'not the one to come');

    serve(jwks($k2, $k3));
    ok(poll { ask($three)->{status} == 200 }, 'it comes');
    is(workers(2, sub { ask($two) }), '200 200', 'the second is still there');
    is(workers(2, sub { ask($one) }), '401 401', 'the first one is not');
    $t->stop;

    # an unknown key brings it forward

    serve(jwks($k1));
    $t->start(workers => 2, http => conf(refresh => '1h cooldown=2s'));
    ok(poll { shown()->{keys} }, 'there');
    serve(jwks($k1, $k2));
    my $start = time;
    ok(poll { ask($two)->{status} == 200 }, 'a new key is found');
    cmp_ok(time - $start, '<', 20, 'long before the refresh');
    is(count(), 1, 'by one request');
    $t->stop;
};


subtest 'not modified' => sub {
    my $tag = '"a, b\\c"';
    serve(jwks($k1), ETag => $tag);
    $idp->mode(tag => $tag);
    $t->start(http => conf(refresh => '1s stale=5s'));
    ok(poll { count() >= 8 }, 'for longer than it may be stale');

    my @tags = map { $_->{header}{'if-none-match'} } $idp->requests;
    is(shift @tags, undef, 'first without');
    is_deeply([ grep { ($_ // '') ne $tag } @tags ], [], 'then with the tag');
    is(ask(good($k1))->{status}, 200, 'the keys are good');
    is(shown()->{failures}, 0, 'no failures');

    # what the set means is another configuration's matter

    serve(jwks($k1, $k2), ETag => '"2"');
    ok(poll { shown()->{keys} == 2 }, 'a new one');

    # an answer to a question that was not asked

    serve(jwks($k1));
    ok(poll { shown()->{keys} == 1 }, 'one without a tag');
    $idp->steps({ send => "HTTP/1.1 304 Not Modified\r\n\r\n" });
    ok(poll { shown()->{failures} }, 'unasked');
    like(shown()->{error}, qr/status 304/, 'is an error');
    is(ask(good($k1))->{status}, 200, 'the keys are kept');

    $t->stop;
    serve('');
    $idp->steps({ send => "HTTP/1.1 304 Not Modified\r\n\r\n" });
    $t->start(http => conf());
    ok(poll { shown()->{failures} }, 'unasked');
    like(shown()->{error}, qr/status 304/, 'is an error');
    is(ask(good($k1))->{status}, 503, 'and there are no keys');
    $t->stop;
};


subtest 'a flood of unknown keys' => sub {
    serve(jwks($k1));
    $t->start(workers => 4, http => conf(refresh => '1h cooldown=3s'));
    ok(poll { shown()->{keys} }, 'there');

    my $jwt = good($k1);
    my ($end, $n, %status) = (time + 10, 0);

    while (time < $end) {
        my $bad = $k2->mint(claims(), header => { kid => 'x' . $n++ },
                            signature => 'x' x 64);
        $status{ask($bad)->{status}}++ for 1 .. 5;
        $status{'good ' . ask($jwt)->{status}}++;
    }

    is_deeply([sort keys %status], ['401', 'good 200'],
        "$n unknown keys are refused, a good one passes");

    my @times = map { $_->{time} } $idp->requests;
    my @gaps = map { $times[$_] - $times[$_ - 1] } 1 .. $#times;
    note("requests after @gaps seconds");
    cmp_ok(scalar @times, '>=', 3, 'it is asked for them');
    cmp_ok(scalar @times, '<=', 5, 'but rarely');
    is(scalar(grep { $_ < 2.9 } @gaps), 0, 'never within the cooldown');

    # nor when the server is away

    my $before = $idp->connections;
    $idp->mode(accept => 'close');
    $end = time + 7;
    $n = 0;
    while (time < $end) {
        my $bad = $k2->mint(claims(), header => { kid => 'y' . $n++ },
                            signature => 'x' x 64);
        ask($bad) for 1 .. 5;
    }
    cmp_ok($idp->connections - $before, '<=', 7, 'when it does not answer');
    is(ask($jwt)->{status}, 200, 'the good key passes');
    $t->stop;
};


subtest 'too old' => sub {
    my $tail = length $t->log('error.log');
    serve(jwks($k1));
    $t->start(workers => 2, http => conf(refresh => '1s cooldown=1s stale=4s'));
    ok(poll { shown()->{keys} }, 'there');
    $idp->stop;

    my $jwt = good($k1);
    my ($r, $slow, %status) = (undef, 0);

    ok(poll {
        my $start = time;
        $r = ask($jwt);
        $slow = time - $start if time - $start > $slow;
        $status{$r->{status}}++;
        $r->{status} == 503;
    }, 'at last there are no keys');

    is_deeply([sort keys %status], [200, 503], 'until then the old ones');
    cmp_ok($slow, '<', 1, 'nobody waits');
    is($r->{headers}{'x-hybrid-reason'}, 'issuer_unavailable', 'the reason');
    ok($r->{headers}{'retry-after'}, 'Retry-After');
    is(workers(2, sub { ask($jwt) }), '503 503', 'in all workers');
    ok(poll { !defined shown()->{age_seconds} }, 'it is dropped');
    is(shown()->{keys}, 0, 'status: no keys');
    cmp_ok(shown()->{failures}, '>', 1, 'failures');

    $idp->start;
    ok(poll { ask($jwt)->{status} == 200 }, 'back when the server is');
    ok(poll { !shown()->{failures} }, 'status');

    my $log = substr $t->log('error.log'), $tail;
    my @err = $log =~ /\[error\].*nobody has confirmed it/g;
    my @warn = $log =~ /\[warn\].*key set of issuer "idp": .*refused/g;
    my @back = $log =~ /\[notice\].*key set of issuer "idp": is there again/g;
    is(scalar @err, 1, 'one error');
    is(scalar @warn, 1, 'one warning');
    is(scalar @back, 1, 'one notice');
    $t->stop;
};


subtest 'workers that die or go' => sub {
    serve(jwks($k1));
    $t->start(workers => 2, http => conf(refresh => '1s cooldown=1s'));
    ok(poll { shown()->{keys} }, 'there');

    my $jwt = good($k1);
    $idp->clear;
    $idp->steps({ hang => 1 });
    ok(poll { count() == 1 }, 'a fetch hangs');
    is(workers(2, sub { ask($jwt) }), '200 200', 'the keys are used');

    # the next answer is a good one, but nobody is left to read the first

    serve(jwks($k1, $k2));
    my @workers = Hybrid::_workers($t->{pid});
    is(scalar @workers, 2, 'two workers');
    $t->expect_log(qr/exited on signal 9/);
    kill KILL => @workers;
    my $start = time;
    ok(poll { (eval { shown()->{keys} } // 0) == 2 }, 'others take it over');
    note(sprintf 'after %.1f s', time - $start);
    is(ask($jwt)->{status}, 200, 'and verify');

    # a reload in the middle does not wait for the turn to end

    $idp->clear;
    $idp->steps({ hang => 1 });
    ok(poll { count() == 1 }, 'a fetch hangs');
    serve(jwks($k3));
    $start = time;
    ok($t->reload(workers => 2, http => conf(refresh => '1s cooldown=1s')),
       'reload');
    ok(poll { ask(good($k3))->{status} == 200 }, 'the new ones have fetched');
    cmp_ok(time - $start, '<', 9, 'before the old one would have given up');

    $idp->clear;
    $idp->steps({ hang => 1 });
    ok(poll { count() == 1 }, 'a fetch hangs');
    $start = time;
    $t->stop;
    cmp_ok(time - $start, '<', 5, 'and nginx ends without waiting for it');
};


subtest 'names' => sub {
    my $dns = HybridOdd->dns($t, 'dns');

    # looked up once, whatever the order of its addresses

    serve(jwks($k1));
    $t->start(http => conf(url => "https://localhost:$idp->{port}/certs"));
    ok(poll { shown()->{keys} }, 'by the system');
    is(($idp->requests)[0]{header}{host}, "localhost:$idp->{port}", 'Host');
    $t->stop;

    my $resolver = "resolver 127.0.0.1:$dns->{port} valid=1s ipv6=off;";
    my %o = (url => "https://keys.test:$idp->{port}/certs",
             http => $resolver, refresh => '1s cooldown=1s');

    $dns->names('keys.test' => ['127.0.0.1']);
    serve(jwks($k1));
    $t->start(http => conf(%o));
    ok(poll { shown()->{keys} }, 'by the resolver');
    is(($idp->requests)[0]{header}{host}, "keys.test:$idp->{port}", 'Host');

    $dns->names();
    ok(poll { shown()->{failures} }, 'unknown');
    like(shown()->{error}, qr/"keys.test" could not be resolved/, 'is said');
    is(ask(good($k1))->{status}, 200, 'the keys are kept');

    # one that is out of reach is no reason to fail

    $dns->names('keys.test' => ['127.0.0.1', '127.0.0.2', '127.0.0.3']);
    ok(poll { !shown()->{failures} }, 'several addresses');
    $idp->clear;
    ok(poll { count() >= 6 }, 'are tried');
    is(shown()->{failures}, 0, 'until one is there');

    $dns->stop;
    ok(poll { shown()->{failures} }, 'no answer');
    like(shown()->{error}, qr/resolved|timed out/, 'is said');
    is(ask(good($k1))->{status}, 200, 'the keys are kept');

    my $start = time;
    $t->stop;
    cmp_ok(time - $start, '<', 5, 'nginx ends without waiting for a name');

    like($t->start_fails(http => conf(url => 'https://nowhere.invalid/x')),
         qr/host not found.*key set of issuer "idp".* in \S+:\d+/s,
         'nginx -t looks up without a resolver');
    is($t->start_fails(http => conf(url => 'https://nowhere.invalid/x',
                                    http => $resolver)),
       undef, 'and not with one');
};

$t->done;
