# credential gce: the token of a metadata server, for all workers, ahead of
# its end, and what happens without one.

use strict;
use warnings;

use lib 't/lib';
use Hybrid;
use HybridOdd;
use Test::More;
use Time::HiRes qw(sleep time);

my $t = Hybrid->new;
my $cloud = $t->backend('cloud', models => 'a');
my $local = $t->backend('local', models => 'a');
my $alice = $t->token('alice');
my $meta = HybridOdd->new($t, 'meta');
my $path = '/computeMetadata/v1/instance/service-accounts';
my $serial = 0;

$t->{as} = $alice;


# answers with a new token, gives it
sub token {
    my (%o) = @_;
    my $token = $o{token} // 'ya29.' . Hybrid::sha256(++$serial . rand);
    my $body = $o{body} // Hybrid::encode({ access_token => $token,
        expires_in => $o{expires} // 3599, token_type => 'Bearer' });

    $meta->answer($o{status} // 200, $body, @{$o{headers}
        // ['Metadata-Flavor' => 'Google',
            'Content-Type' => 'application/json']});
    return $token;
}

sub conf {
    my (%o) = @_;
    my $options = $o{options} // "metadata=$meta->{addr}";
    return <<"END";
hybrid_zone 1m;
hybrid_client alice { $alice->{line} models *; egress any; verbs inference; }
hybrid_backend cloud { pass http://$cloud->{addr}; egress cloud; models a;
                       credential gce $options; }
hybrid_backend both  { pass http://$cloud->{addr}; egress cloud; models both;
                       credential gce $options; }
hybrid_backend local { pass http://$local->{addr}; models a local; }
hybrid_route a cloud local;
hybrid_route local local;
hybrid_route both both;
server {
    listen 127.0.0.1:%PORT%;
    add_header X-Worker \$pid;
    location / { hybrid_access token; include %PROXY%; }
    location = /status { hybrid_status json; }
    location = /metrics { hybrid_status prometheus; }
}
END
}

sub ask {
    my ($model) = @_;
    return $t->post('/api/chat', { model => $model, stream => \0 });
}

sub status { return $t->get('/status', as => undef)->{json} }
sub shown { return status()->{access_tokens}[0] }
sub authorization { return $cloud->last->{header}{authorization} // '' }

# what the backend is shown
sub carries {
    my ($token) = @_;
    my $r = ask('a');
    return $r->{headers}{'x-hybrid-backend'} eq 'cloud'
           && authorization() eq "Bearer $token";
}


subtest 'nginx -t' => sub {
    my %wrong = (
        'metadata=' => 'invalid parameter "metadata="',
        'metadata=a/b' => 'invalid parameter "metadata=a/b"',
        'metadata=127.0.0.1:99999' => 'invalid port',
        'account=' => 'invalid parameter "account="',
        'account=a/b' => 'invalid parameter "account=a/b"',
        'account=../x' => 'invalid parameter "account=../x"',
        'account=a account=b' => 'invalid parameter "account=b"',
        'scope=x' => 'invalid parameter "scope=x" of "credential gce"',
    );

    for my $options (sort keys %wrong) {
        like($t->start_fails(http => conf(options => $options)) // 'none',
             qr/\Q$wrong{$options}\E/, $options);
    }

    like($t->start_fails(http => conf(options => 'metadata=127.0.0.1:99999')),
         qr/invalid "metadata=127.0.0.1:99999".* in \S+:\d+/, 'and the line');
};


subtest 'one token for all workers' => sub {
    my $token = token();
    $t->start(workers => 4, http => conf());
    ok(poll { shown()->{expires_in_seconds} }, 'it is there');

    my (%workers, $wrong);

    poll {
        my $r = ask('a');
        $workers{$r->{headers}{'x-worker'}}++;
        $wrong++ if $r->{status} != 200 || authorization() ne "Bearer $token";
        keys %workers == 4;
    };

    is(scalar keys %workers, 4, 'all workers were asked');
    is($wrong, undef, 'the backend is shown the token by each');

    my @r = $meta->requests;
    is(scalar @r, 1, 'one request for it');
    is($r[0]{line}, "GET $path/default/token HTTP/1.1", 'the path');
    is($r[0]{header}{'metadata-flavor'}, 'Google', 'its header');
    is($r[0]{header}{host}, 'metadata.google.internal', 'Host');
    is($r[0]{header}{'x-forwarded-for'}, undef, 'no X-Forwarded-For');

    ask('local');
    is($local->last->{header}{authorization}, undef, 'nobody else sees it');

    my $seen = $t->raw("POST /api/chat HTTP/1.0\r\nHost: x\r\n"
        . "CF-Access-Client-Id: $alice->{id}\r\n"
        . "CF-Access-Client-Secret: $alice->{secret}\r\n"
        . "Content-Length: 28\r\n\r\n"
        . '{"model":"a","stream":false}');
    like($seen, qr/^HTTP\S+ 200/, 'with a credential of another kind');
    unlike($seen, qr/ya29/, 'the client does not get the token');
    is(authorization(), "Bearer $token", 'the backend does');

    my $shown = shown();
    is($shown->{account}, 'default', 'status: account');
    is($shown->{metadata}, $meta->{addr}, 'server');
    is($shown->{error}, '', 'no error');
    cmp_ok($shown->{expires_in_seconds}, '>', 3500, 'expires');
    cmp_ok($shown->{next_seconds}, '<=', 3599 - 240, 'next before its end');
    cmp_ok($shown->{next_seconds}, '>', 3000, 'and not too early');
    like($t->get('/metrics', as => undef)->{content},
         qr/^ngx_hybrid_access_token_expires_seconds\{.*\} 35\d\d$/m,
         'prometheus');

    ok($t->reload(workers => 4, http => conf()), 'reload');
    ok(carries($token), 'it is there after a reload');
    is(scalar(() = $meta->requests), 1, 'without a new request');
    $t->stop;
};


subtest 'another account' => sub {
    token();
    $meta->clear;
    $t->start(http => conf(options =>
        "account=ai\@p.iam.gserviceaccount.com metadata=$meta->{addr}"));
    ok(poll { shown()->{expires_in_seconds} }, 'it is there');
    is(($meta->requests)[0]{line},
       "GET $path/ai\@p.iam.gserviceaccount.com/token HTTP/1.1", 'asked for');
    $t->stop;
};


subtest 'ahead of its end' => sub {
    my @tokens = (token(expires => 8));
    my $tail = length $t->log('error.log');
    $meta->clear;
    $t->start(workers => 2, http => conf());
    ok(poll { shown()->{expires_in_seconds} }, 'it is there');

    my ($bad, %seen) = (0);

    for my $n (1 .. 2) {
        push @tokens, token(expires => 8);
        ok(poll {
            my $r = ask('a');
            $bad++ if $r->{status} != 200
                      || $r->{headers}{'x-hybrid-backend'} ne 'cloud';
            $seen{authorization()} = 1;
            $seen{"Bearer $tokens[-1]"};
        }, "token $n takes over");
    }

    is($bad, 0, 'and there is always one');
    is_deeply([sort keys %seen], [sort map { "Bearer $_" } @tokens],
        'no other');
    cmp_ok(scalar(() = $meta->requests), '<=', 4, 'few requests');

    # the server goes; its token ends

    $meta->stop;
    ok(poll { ask('a')->{headers}{'x-hybrid-backend'} eq 'local' },
       'without a token the next candidate answers');

    my $r = ask('a');
    is($r->{status}, 200, 'well');
    is($r->{headers}{'x-hybrid-fallback'}, 'no_live', 'and says so');

    $cloud->clear;
    $r = ask('both');
    is($r->{status}, 503, '503 when there is none left');
    is(scalar(() = $cloud->requests), 0, 'the backend was not asked');
    like(shown()->{error}, qr/Connection refused/, 'status: why');
    cmp_ok(shown()->{failures}, '>=', 1, 'failures');

    my $token = token(expires => 100);
    $meta->start;
    ok(poll { carries($token) }, 'back when the server is');

    my $log = substr $t->log('error.log'), $tail;
    my @warn = $log =~ /(\[warn\].*access token of "default": .*)/g;
    cmp_ok(scalar @warn, '<=', 3, 'once a fault: the server, none in a worker')
        or diag(explain(\@warn));
    like($log, qr/\[warn\].*Connection refused/, 'the fault');
    like($log, qr/\[notice\].*access token.*there again/, 'and its end');
    unlike($log, qr/ya29/, 'never the token');
    $t->stop;
};


subtest 'garbage' => sub {
    my $long = 'x' x 4097;
    my $google = ['Metadata-Flavor' => 'Google'];
    my $ok = '"access_token":"abc","token_type":"Bearer"';

    my @cases = (
        [ { headers => [] }, qr/not of a metadata server/ ],
        [ { headers => ['Metadata-Flavor' => 'google'] },
          qr/not of a metadata server/ ],
        [ { body => '<html>' }, qr/not valid JSON/ ],
        [ { body => '' }, qr/not valid JSON/ ],
        [ { body => "{$ok,\"expires_in\":3599" }, qr/not valid JSON/ ],
        [ { body => "{$ok,\"expires_in\":3599}{}" }, qr/not valid JSON/ ],
        [ { body => "{$ok,\"expires_in\":99,\"expires_in\":99}" },
          qr/not valid JSON/ ],
        [ { body => "{$ok}" }, qr/expires_in/ ],
        [ { body => "{$ok,\"expires_in\":\"3599\"}" }, qr/expires_in/ ],
        [ { body => "{$ok,\"expires_in\":0}" }, qr/expires_in/ ],
        [ { body => "{$ok,\"expires_in\":-1}" }, qr/expires_in/ ],
        [ { body => "{$ok,\"expires_in\":1e9}" }, qr/expires_in/ ],
        [ { body => "{$ok,\"expires_in\":99999999999999999999}" },
          qr/expires_in/ ],
        [ { token => '' }, qr/no usable "access_token"/ ],
        [ { token => $long }, qr/no usable "access_token"/ ],
        [ { token => "a\r\nX-Evil: 1" }, qr/visible ASCII/ ],
        [ { token => "a b" }, qr/visible ASCII/ ],
        [ { token => "a\x{e9}" }, qr/visible ASCII|not valid/ ],
        [ { body => '{"access_token":7,"expires_in":99,'
                    . '"token_type":"Bearer"}' }, qr/no usable/ ],
        [ { body => '{"access_token":"a","expires_in":99,'
                    . '"token_type":"MAC"}' }, qr/token_type/ ],
        [ { body => '{"access_token":"a","expires_in":99}' },
          qr/token_type/ ],
        [ { status => 403 }, qr/status 403/ ],
        [ { status => 429 }, qr/status 429/ ],
        [ { status => 302, headers => [@$google,
            Location => "http://$meta->{addr}/"] }, qr/status 302/ ],
        [ { body => 'x' x 20000 }, qr/larger than 16384/ ],
    );

    $cloud->clear;

    for my $case (@cases) {
        my ($answer, $error) = @$case;
        token(%$answer);
        $t->start(http => conf());
        ok(poll { shown()->{failures} }, 'asked');
        like(shown()->{error}, $error, 'error ' . $error =~ s/\(\?\^:|\)$//gr);
        is(ask('both')->{status}, 503, 'no token');
        $t->stop;
    }

    is(scalar(() = $cloud->requests), 0, 'the backend has seen nothing');

    my $token = 'x' x 4096;
    token(token => $token);
    $t->start(http => conf());
    ok(poll { shown()->{expires_in_seconds} }, 'the longest token');
    ok(carries($token), 'is used');
};


subtest 'nobody uses it' => sub {
    $t->stop;
    $meta->clear;
    token();
    $t->start(http => <<"END");
hybrid_client alice { $alice->{line} models *; }
hybrid_backend local { pass http://$local->{addr}; models a; }
hybrid_route a local;
END
    is(ask('a')->{status}, 200, 'a gateway without it');
    sleep 1.5;
    is($meta->connections, 0, 'asks for nothing');
};

$t->done;
