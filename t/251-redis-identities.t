# JWTs and certificates of clients in Redis: who has them, what is not told
# apart, changes under way, and Redis away.

use strict;
use warnings;

use lib 't/lib';
use Hybrid;
use HybridJwt;
use HybridRedis ();
use HybridTls;
use Test::More;
use Time::HiRes qw(sleep time);

my $t = Hybrid->new;
my $redis = HybridRedis::redis(name => 'redis');
my $forge = $t->backend('forge', models => 'a');
my $ca = HybridTls->ca($t, 'root');
my $gw = $ca->issue(subject => '/CN=gw', san => [ 'DNS:gw' ]);
my $tool = ($ENV{HYBRID_ROOT} || '.') . '/tools/hybrid-token';
my $spiffe = 'spiffe://home.test/ns/rag';

my %key = map { $_ => HybridJwt->key('ES256', kid => $_) } qw(home work);
$t->file("$_.json", jwks($key{$_})) for keys %key;

my %cert = (
    filed => $ca->issue(san => [ 'DNS:filed.test' ]),
    dora => $ca->issue(san => [ 'DNS:x.test', 'DNS:Dora.TEST' ]),
    emil => $ca->issue(san => [ "URI:$spiffe" ]),
    flo => $ca->issue(san => [ 'email:Flo@home.test' ]),
    gus => $ca->issue(subject => '/CN=gus'),
    both => $ca->issue(subject => '/O=Home san=x/CN=Both B',
                       san => [ 'DNS:both.test' ]),
    half => $ca->issue(subject => '/CN=half', san => [ 'DNS:both.test' ]),
    twins => $ca->issue(san => [ 'DNS:one.test', 'DNS:two.test' ]),
    nobody => $ca->issue(san => [ 'DNS:nobody.test' ]),
);

my $issuers = join '', map { "hybrid_issuer $_ { issuer https://$_.test;"
    . " audience gateway; jwks $t->{dir}/$_.json; algorithms ES256; }\n" }
    sort keys %key;

my %conf = (workers => 2, http => <<"END");
    hybrid_redis 127.0.0.1:$redis->{port} timeout=8s;
    hybrid_clients redis;
    $issuers
    hybrid_client file {
        jwt home sub=filed;
        jwt home groups=files;
        cert san=filed.test;
        models *;
    }
    hybrid_backend forge { pass http://$forge->{addr}; }
    hybrid_route * forge;

    server {
        listen 127.0.0.1:%PORT% ssl reuseport;
        ssl_certificate $gw->{cert};
        ssl_certificate_key $gw->{key};
        ssl_verify_client optional;
        ssl_client_certificate $ca->{cert};
        add_header X-Worker "\$pid" always;
        add_header X-Who "\$hybrid_client \$hybrid_auth" always;

        location / { hybrid_access mtls jwt; include %PROXY%; }
        location = /status { hybrid_access off; hybrid_status json; }
    }
END

$t->start(%conf);

sub jwt {
    my (%o) = @_;
    my $issuer = delete $o{by} || 'home';
    return { jwt => $key{$issuer}->mint(claims(iss => "https://$issuer.test",
                                               %o)) };
}

sub cert { return { cert => $cert{ $_[0] } } }

sub tool {
    my (@args) = @_;
    return $t->run('sh', $tool, @args, '--redis', "127.0.0.1:$redis->{port}");
}

sub put {
    my ($name, @fields) = @_;
    my $said = tool('client', 'put', $name, @fields,
                    grep({ /^models=/ } @fields) ? () : 'models=*');
    return ok($t->{rc} == 0, "put $name: @fields") || diag($said);
}

sub drop {
    tool('client', 'drop', $_[0]);
    return is($t->{rc}, 0, "drop $_[0]");
}

# as somebody might who does not use the tool
sub raw {
    my ($name, $identity, %field) = @_;
    $redis->command('DEL', "hybrid:client:{$name}");
    $redis->command('HSET', "hybrid:client:{$name}", models => '*', %field);
    $redis->command('HSET', 'hybrid:identities', $identity, $name, '.version',
                    rand);
    $redis->command('HINCRBY', 'hybrid:identities', '.seq', 1);
}

sub on {
    my ($c, $who) = @_;
    return $c->ask('POST', '/api/chat', content => '{"model":"a"}',
        headers => $who->{jwt}
                   ? [ [ Authorization => "Bearer $who->{jwt}" ] ] : [])
           || { status => 'closed', headers => {} };
}

sub answer {
    my ($who) = @_;
    my $c = HybridTls->connect($t, cert => $who->{cert})
            or return { status => 'no handshake', headers => {} };
    my $r = on($c, $who);
    $r->{text} = join ' ', $r->{status}, grep { defined }
                 $r->{status} == 200 ? $r->{headers}{'x-who'} =~ /^(\S+)/
                                     : $r->{headers}{'x-hybrid-reason'};
    return $r;
}

# all workers say this, and nothing else any more
sub gives {
    my ($what, $who, $expected) = @_;
    my ($last, $from) = ('', time);
    my $found = poll {
        my ($n, %workers) = 0;
        while ($n++ < 4 || keys %workers < 2) {
            my $r = answer($who);
            $last = $r->{text};
            return 0 if $last ne $expected || $n > 100;
            $workers{ $r->{headers}{'x-worker'} } = 1;
        }
        1;
    };
    note(sprintf '%s: after %.2f s', $what, time - $from);
    local $Test::Builder::Level = $Test::Builder::Level + 1;
    return ok($found, "$what: $expected") || diag("last: $last");
}

sub calls {
    my ($command) = @_;
    my $info = $redis->command('INFO', 'commandstats');
    return $info =~ /^cmdstat_$command:calls=(\d+)/m ? $1 : 0;
}

my $unknown = '403 client_unknown';
my $ambiguous = '403 client_ambiguous';
my $away = '503 client_unavailable';

gives('nobody is there yet', jwt(sub => 'ann'), $unknown);
gives('nor by a certificate', cert('dora'), $unknown);


subtest 'JWTs' => sub {
    put('ann', 'jwt=home sub=ann');
    gives('ann', my $ann = jwt(sub => 'ann'), '200 ann');
    is(answer($ann)->{headers}{'x-who'}, 'ann jwt', 'by what');
    is(answer(jwt(sub => 'bob'))->{text}, $unknown, 'another');
    is(answer(jwt(sub => 'ANN'))->{text}, $unknown, 'in another case');
    is(answer(jwt(sub => 'ann', by => 'work'))->{text}, $unknown,
        'of another issuer');

    put('bea', 'jwt=home email=bea@home.test groups=dev');
    put('cleo', 'jwt=home "groups=Data Science" sub=cleo',
        'jwt=work email=c@x=y');
    put('robot', 'jwt=home common_name=robot.access');
    gives('two conditions', jwt(email => 'bea@home.test',
        groups => [ 'ops', 'dev' ]), '200 bea');
    gives('found in a list', jwt(sub => 'cleo',
        groups => [ 'ops', 'Data Science' ]), '200 cleo');
    gives('another line', jwt(by => 'work', email => 'c@x=y'), '200 cleo');
    gives('common_name', jwt(sub => '', common_name => 'robot.access'),
        '200 robot');

    put('mix', 'jwt=home email=mix@home.test groups=dev', 'jwt=work sub=mix');
    gives('one of two issuers', jwt(by => 'work', sub => 'mix'), '200 mix');

    is(answer(jwt(%$_))->{text}, $unknown, 'not all holds: '
        . join ' ', map { ref $_ ? "@$_" : $_ } %$_)
        for { email => 'bea@home.test' },
            { email => 'bea@home.test', groups => [ 'ops', 'Dev' ] },
            { email => 'bea@home.test', groups => 'development' },
            { sub => 'cleo', groups => [ 'Data', 'Science' ] },
            { groups => 'Data Science' }, { sub => 'cleo' },
            { email => 'mix@home.test', sub => 'mix' },
            { common_name => [ 'robot.acces' ] };
};


subtest 'certificates' => sub {
    put('dora', 'cert=san=dora.test');
    put('emil', "cert=san=$spiffe");
    put('flo', 'cert=san=email:Flo@home.test');
    put('gus', 'cert=sha256=' . $cert{gus}{colons});
    put('both', 'cert=subject="CN=Both B,O=Home san=x" san=dns:BOTH.test');
    gives($_, cert($_), "200 $_") for qw(gus dora emil flo both);
    is(answer(cert('dora'))->{headers}{'x-who'}, 'dora mtls', 'by what');
    is(answer(cert('half'))->{text}, $unknown, 'another subject');
    is(answer(cert('nobody'))->{text}, $unknown, 'another name');

    # a connection that stays
    my $c = HybridTls->connect($t, cert => $cert{nobody});
    is(on($c)->{status}, 403, 'not there yet');
    put('late', 'cert=san=nobody.test');
    ok(poll { on($c)->{status} == 200 }, 'there, on the same connection');
    drop('late');
    ok(poll { on($c)->{status} == 403 }, 'and gone');
};


subtest 'changed and dropped' => sub {
    my ($old, $new) = (jwt(sub => 'ann'), jwt(sub => 'anna'));
    gives('known', $old, '200 ann');
    put('ann', 'jwt=home sub=anna');
    gives('the new line', $new, '200 ann');
    gives('the old line', $old, $unknown);
    put('ann', 'models=b');
    gives('other models', $new, '403 model_denied');
    put('ann', 'models=a');
    gives('and back', $new, '200 ann');

    # only the condition that is not in the index
    my $who = jwt(email => 'bea@home.test', groups => [ 'dev' ]);
    put('bea', 'jwt=home email=bea@home.test groups=ops');
    gives('another condition', $who, $unknown);
    put('bea', 'jwt=home email=bea@home.test');
    gives('none', $who, '200 bea');

    put('dora', 'cert=san=dora.test subject="CN=dora"');
    gives('a condition more', cert('dora'), $unknown);
    put('dora', 'cert=san=x.test');
    gives('another name', cert('dora'), '200 dora');
    put('dora', 'cert=', 'jwt=home sub=dora');
    gives('a JWT instead', jwt(sub => 'dora'), '200 dora');
    gives('no certificate', cert('dora'), $unknown);

    drop($_) for 'ann', 'emil';
    gives('dropped', $new, $unknown);
    gives('dropped', cert('emil'), $unknown);
    my @left = grep { /emil|ann/ }
               @{ $redis->command('HGETALL', 'hybrid:identities') };
    is("@left", '', 'nothing is left in the index');
};


subtest 'who it is can not be told' => sub {
    put('one', 'jwt=home sub=one', 'cert=san=one.test');
    put('two', 'jwt=home email=two@home.test', 'cert=san=two.test');
    put('same', 'jwt=home sub=same', 'jwt=home email=same@home.test');
    my $both = jwt(sub => 'one', email => 'two@home.test');
    gives('one', jwt(sub => 'one'), '200 one');
    gives('two', jwt(email => 'two@home.test'), '200 two');
    gives('both', $both, $ambiguous);
    gives('a certificate of two', cert('twins'), $ambiguous);
    gives('two lines of one', jwt(sub => 'same', email => 'same@home.test'),
        '200 same');
    like($t->log('error.log'),
        qr/\[warn\].*fits client "one" and client "two"/, 'the log says it');

    # what was remembered for one is not good when another comes
    drop('two');
    gives('one is left', $both, '200 one');
    gives('of certificates, too', cert('twins'), '200 one');
    put('two', 'jwt=home email=two@home.test', 'cert=san=two.test');
    gives('both again', $both, $ambiguous);
    gives('both again', cert('twins'), $ambiguous);
    drop('one');
    gives('the other is left', $both, '200 two');
};


subtest 'the file wins' => sub {
    put('thief', 'jwt=home sub=filed', 'jwt=home email=t@home.test',
        'cert=san=filed.test');
    gives('thief', jwt(sub => 'x', email => 't@home.test'), '200 thief');
    gives('a JWT', jwt(sub => 'filed'), '200 file');
    gives('a JWT of both', jwt(sub => 'x', email => 't@home.test',
        groups => 'files'), '200 file');
    gives('a certificate', cert('filed'), '200 file');
};


subtest 'remembered' => sub {
    my $who = jwt(sub => 'same');
    gives('known', $who, '200 same');
    gives('known', cert('gus'), '200 gus');
    gives('nobody', jwt(sub => 'nobody'), $unknown);
    my %before = map { $_ => calls($_) } qw(hget hgetall);
    for (1 .. 20) {
        answer($_) for $who, cert('gus'), cert('nobody');
        answer(jwt(sub => "nobody-$_", groups => [ 1 .. 200 ]));
    }
    is(calls('hgetall'), $before{hgetall}, 'nobody asks for a client');
    # statistics have some of their own
    cmp_ok(calls('hget') - $before{hget}, '<', 20, 'nor whose it is');
};


subtest 'waiting' => sub {
    # two identities of one client, each asked for in turn, by each worker
    put('slow', 'jwt=home sub=slow', 'jwt=home email=slow@home.test',
        'cert=san=nobody.test');
    gives('slow', jwt(sub => 'slow'), '200 slow');
    put('slow', 'models=a');
    my @jwts = map { jwt(sub => 'slow', email => 'slow@home.test', n => $_) }
               1 .. 6;
    my $from = time;
    poll { my $text = answer(jwt(sub => 'nobody'))->{text};
           time - $from > 2.5 };
    my @c = map { HybridTls->connect($t, cert => $_) }
            (undef) x 6, ($cert{nobody}) x 6;

    $redis->freeze;
    my @left;
    for my $i (0 .. 11) {
        Net::SSLeay::write($c[$i]{ssl}, "GET /api/tags HTTP/1.1\r\nHost: x\r\n"
            . ($i < 6 ? "Authorization: Bearer $jwts[$i]{jwt}\r\n" : '')
            . "\r\n");
    }
    my $readable = '';
    vec($readable, fileno $_->{socket}, 1) = 1 for @c[ 0 .. 5 ];
    sleep 0.5;
    is(scalar(grep { Net::SSLeay::pending($_->{ssl}) } @c), 0, 'they wait');
    @left = splice @c, 4, 4;
    $_->close for @left;
    sleep 0.3;
    $redis->thaw;
    my @status = map { $_->_until(qr/\r\n\r\n/);
                       $_->{buffer} =~ m{^HTTP/1.1 (\d+)} ? $1 : 'none' } @c;
    is("@status", '200 ' x 7 . '200', 'and get an answer');
    undef @c;

    my @workers = Hybrid::_workers($t->{pid});
    ok($t->reload, 'reload');
    ok(poll { !grep { kill 0, $_ } @workers }, 'the old workers end');
    gives('after a reload', jwt(sub => 'slow'), '200 slow');
};


subtest 'revoked' => sub {
    my $revoked = '401 unauthenticated';
    my %who = (jti => jwt(sub => 'same', jti => 'j1'), sub =>
        jwt(sub => 'same', jti => 'j2'), cert => cert('gus'));
    gives("$_: not yet", $who{$_}, $_ eq 'cert' ? '200 gus' : '200 same')
        for sort keys %who;

    for my $case ([ jti => 'jti', 'home', 'j1' ], [ sub => 'sub', 'home',
        'same' ], [ sub => 'client', 'same' ], [ cert => 'client', 'gus' ],
        [ cert => 'cert', $cert{gus}{sha256} ])
    {
        my ($who, @what) = @$case;
        tool('revoke', @what);
        is($t->{rc}, 0, "revoke @what");
        gives("@what", $who{$who}, $revoked);
        gives('not the other', $who{sub}, '200 same') if $who eq 'jti';
        tool('restore', @what);
        gives('restored', $who{$who}, $who eq 'cert' ? '200 gus' : '200 same');
    }
};


subtest 'what can not be used' => sub {
    my @bad = (
        [ { jwt => 'other sub=judy' } => qr/is no hybrid_issuer "other"/ ],
        [ { jwt => 'home team=x' }
            => qr/claim "team" of issuer "home" is not read here/ ],
        [ { jwt => 'work groups=x' }
            => qr/claim "groups" of issuer "work" is not read here/ ],
        [ { jwt => 'home' } => qr/number of arguments/ ],
        [ { jwt => "home sub=judy\nhome sub" } => qr/invalid condition "sub"/ ],
        [ { cert => 'subject="CN=x"' } => qr/"subject=" alone finds nobody/ ],
        [ { cert => 'san=*.test' } => qr/no wildcards/ ],
        [ { cert => "san=a.test\nsan=a.test" }
            => qr/belongs to client "judy"/ ],
    );
    my $judy = jwt(sub => 'judy');

    for my $case (@bad) {
        my ($field, $why) = @$case;
        raw('judy', 'jwt:home:sub=judy', %$field);
        my $before = length $t->log('error.log');
        gives('refused', $judy, $away);
        like(substr($t->log('error.log'), $before),
            qr/\[warn\].* client "judy" in redis is refused: .*$why/, 'why');
        raw('judy', 'jwt:home:sub=judy', jwt => 'home sub=judy');
        gives('mended', $judy, '200 judy');
    }

    raw('judy', 'jwt:home:sub=judy', jwt => 'home sub=jud');
    gives('an identity that the client has not', $judy, $unknown);
    raw('judy', 'jwt:home:sub=judy', token => 'judy sha256:' . '0' x 64);
    gives('nor one like it', $judy, $unknown);

    # the tool
    for my $args ([ 'jwt=home' ], [ 'jwt=home sub' ], [ 'jwt=home sub=' ],
        [ 'jwt=home "sub=a b' ], [ 'jwt=home sub=a"b' ], [ 'jwt=ho/me sub=a' ],
        [ 'cert=subject="CN=x"' ], [ 'cert=subject="CN=x san=y"' ],
        [ 'cert=sha256=12' ], [ 'cert=san=*.test' ], [ 'cert=cn=x' ])
    {
        my $said = tool('client', 'put', 'kim', 'models=*', @$args);
        is($t->{rc} >> 8, 2, "wrong usage: @$args");
        like($said, qr/^hybrid-token: .*(?:jwt|cert)/, 'what');
    }

    for my $args ([ qr/jwt:home:sub=same is an id of client same/,
                    'jwt=home sub=same groups=x' ],
                  [ qr/cert:sha256=\w{64} is an id of client gus/,
                    "cert=sha256=\U$cert{gus}{sha256}\E san=gus.test" ],
                  [ qr/cert:san=dns:two.test is an id of client two/,
                    'cert=san=TWO.test' ],
                  [ qr/cert:san=uri:urn:x is an id of client urn/,
                    'cert=san=uri:urn:x' ],
                  [ qr/longer than 500/, 'jwt=home sub=' . 'x' x 510 ],
                  [ qr/no "token", "jwt" or "cert"/, 'verbs=read' ])
    {
        my ($why, @fields) = @$args;
        put('urn', 'cert=san=uri:urn:x') if "@fields" =~ /urn/;
        my $said = tool('client', 'put', 'kim', 'models=*', @fields);
        is($t->{rc} >> 8, 1, substr "refused: @fields", 0, 60);
        like($said, $why, 'why');
    }
    is($redis->command('EXISTS', 'hybrid:client:{kim}'), 0, 'nothing was made');
};


subtest 'Redis away' => sub {
    my @known = ([ jwt(sub => 'same') => '200 same' ],
                 [ cert('gus') => '200 gus' ],
                 [ jwt(sub => 'filed') => '200 file' ],
                 [ cert('filed') => '200 file' ]);
    put('newman', 'jwt=home sub=newman', 'cert=san=one.test');
    my $from = time;
    poll { time - $from > 2.5 };
    gives('known', @$_) for @known;
    ok($redis->stop, 'killed');
    gives('who is known', @$_) for @known;
    gives('who is not', jwt(sub => 'newman'), $away);
    is(answer(jwt(sub => 'newman'))->{headers}{'retry-after'}, 1,
        'Retry-After');
    gives('a certificate of nobody known', cert('twins'), $away);
    gives('nobody', jwt(sub => 'nobody'), $unknown);

    # a new worker knows nobody, but the index is in the zone
    ok($t->reload, 'reload');
    gives('who was known', jwt(sub => 'same'), $away);
    gives('a certificate', cert('gus'), $away);
    gives('nobody', jwt(sub => 'nobody'), $unknown);
    gives('the file', cert('filed'), '200 file');

    ok($redis->start, 'started empty');
    put($_->[0], $_->[1]) for [ 'same', 'jwt=home sub=same' ],
        [ 'gus', "cert=sha256=$cert{gus}{sha256}" ];
    gives('back', jwt(sub => 'same'), '200 same');
    gives('back', cert('gus'), '200 gus');
    gives('not put again', jwt(sub => 'newman'), $unknown);
};

$t->done;
