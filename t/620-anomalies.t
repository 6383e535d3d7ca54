# Anomalies: each kind begins and ends, is shown, and is told of once by two
# workers and over a reload.

use strict;
use warnings;

use lib 't/lib';
use Hybrid;
use HybridJwt;
use HybridTls;
use POSIX ();
use Test::More;
use Time::HiRes qw(sleep time);

my $t = Hybrid->new;
my %b = map { $_ => $t->backend($_, models => 'm1,m2') }
            qw(slow stuck flap down plain);
$b{cold} = $t->backend('cold', models => 'm3', load_ms => 600);
my $ca = HybridTls->ca($t, 'root');
my $gw = $ca->issue(subject => '/CN=gw', san => [ 'DNS:gw' ]);
my $soon = $ca->issue(subject => '/CN=soon', ends => 3600);
my $later = $ca->issue(subject => '/CN=later', ends => 30 * 86400);
my $secret = HybridJwt->key('HS256', secret => 'a-secret' x 4);
my $slow_path = $b{slow}{addr};

sub until_in {
    return POSIX::strftime('%Y-%m-%dT%H:%M:%SZ', gmtime(time + $_[0]));
}

my %token = map { $_ => $t->token($_) } qw(alice bob dave frank grace);
$token{erin} = $t->token('erin', until => until_in(3 * 86400));
$token{old} = $t->token('frank', until => until_in(2 * 86400));
$token{ended} = $t->token('grace', id => $token{grace}{id},
                          until => '2020-01-01T00:00:00Z');

$t->file('secret', "$secret->{secret}\n");
$t->file('own.cert', Hybrid::_slurp($soon->{cert}));
$t->file('own.key', Hybrid::_slurp($soon->{key}));

sub conf {
    my (%o) = @_;
    my $erin = $o{erin} || $token{erin}{line};
    return <<"END";
    hybrid_issuer home { issuer https://issuer.test; audience gateway;
                         algorithms HS256; secret $t->{dir}/secret; }
    hybrid_client alice { $token{alice}{line} models *; }
    hybrid_client bob { $token{bob}{line} models *; }
    hybrid_client dave { $token{dave}{line} models m1; }
    hybrid_client erin { $erin models *; }
    hybrid_client frank { $token{frank}{line} $token{old}{line} models *; }
    hybrid_client grace { $token{grace}{line} $token{ended}{line} models *; }
    hybrid_client jane { jwt home sub=alice; models *; }
    hybrid_client carl { cert subject="CN=soon"; models *; }

    hybrid_backend slow { pass http://$b{slow}{addr};
        probe interval=200ms slow=400ms; }
    hybrid_backend stuck { pass http://$b{stuck}{addr};
        probe interval=200ms stall=1s; }
    hybrid_backend flap { pass http://$b{flap}{addr};
        probe interval=100ms fails=1 passes=1; }
    hybrid_backend down { pass http://$b{down}{addr};
        probe interval=200ms fails=1; }
    hybrid_backend plain { pass http://$b{plain}{addr};
        rename other absent; probe interval=200ms; }
    hybrid_backend cold { pass http://$b{cold}{addr}; probe off;
        cold_starts 1; }
    hybrid_backend own { pass https://127.0.0.1:1; host gw; probe off;
        client_certificate $t->{dir}/own.cert $t->{dir}/own.key; }

    hybrid_route m1 plain;
    hybrid_route lost slow,plain down;
    hybrid_route other plain;
    hybrid_route m3 cold;
    hybrid_route m2* slow stuck flap own;

    server {
        listen 127.0.0.1:%PORT%;
        location / { hybrid_access token jwt; include %PROXY%; }
        location = /status { hybrid_status json; }
        location = /metrics { hybrid_status prometheus; }
    }
    server {
        listen 127.0.0.1:%PORT2% ssl;
        ssl_certificate $gw->{cert};
        ssl_certificate_key $gw->{key};
        ssl_verify_client optional;
        ssl_client_certificate $ca->{cert};
        location / { hybrid_access mtls; include %PROXY%; }
    }
END
}

my %start = (workers => 2, ca => $ca->{cert});

$t->start(%start, http => conf());

sub ask {
    my ($as, $model, %o) = @_;
    return $t->post('/api/chat', { model => $model || 'm1',
        stream => JSON::PP::false }, as => $as, %o)->{status};
}

# what is wrong now: "kind labels" => the row
sub now {
    my %rows;
    for my $row (@{$t->get('/status')->{json}{anomalies}}) {
        $rows{join ' ', grep { defined } @$row{qw(kind backend path model
                                                  client)}} = $row;
    }
    return \%rows;
}

# an evaluation is at most a second old: asked more often costs time only
sub settled { my ($test) = @_; return poll { $test->(now()) || !sleep 0.3 } }

sub shown {
    my ($name) = @_;
    my $row;
    ok settled(sub { $row = $_[0]{$name} }), "there is: $name"
        or diag join ', ', keys %{now()};
    return $row || {};
}

sub gone {
    my ($name) = @_;
    ok settled(sub { !$_[0]{$name} }), "it is over: $name";
}

# lines of the log that have this
sub lines {
    my ($regex) = @_;
    return scalar grep { /$regex/ } split /\n/, $t->log('error.log');
}

sub bearer { return { bearer => "Bearer $_[0]" } }
my $good = bearer($secret->mint(claims()));
my $stale = bearer($secret->mint(claims(exp => time - 3600)));
my %wrong = map { $_ => { bearer => "Bearer $token{$_}{id}:wrong" } }
                qw(bob grace);
$wrong{ended} = $token{ended};


# all is well, but for what the configuration says

is ask($token{alice}), 200, 'a request';
ok settled(sub { $_[0]{'model_missing slow lost'} && keys %{$_[0]} == 6 }),
   'all that is wrong from the beginning'
    or diag join ', ', sort keys %{now()};


subtest 'a model that a route names is not there' => sub {
    my $row = shown('model_missing plain absent');
    like $row->{text}, qr/its list has not the model/, 'by its other name';
    shown('model_missing plain lost');
    shown('model_missing down lost');
    is lines(qr/\[warn\].*model_missing of backend "slow" model "lost"/), 1,
       'it is logged';
    is lines(qr/model_missing of backend "slow" model "m2/), 0,
       'but not for a pattern';
};


subtest 'credentials that end' => sub {
    my $row = shown('credential_expires erin');
    cmp_ok abs($row->{value} - 3 * 86400), '<', 600, 'its last one';
    like $row->{text}, qr/^its last token expires at 20\d\d-\S+Z$/, 'in words';

    $row = shown('credential_expires own');
    is $row->{client}, undef, 'of a backend';
    like $row->{text}, qr/client_certificate expires at 20/, 'which';

    is now()->{'credential_expires frank'}, undef,
       'an old secret that nobody uses may end';
    is ask($token{old}), 200, 'it is used';
    like shown('credential_expires frank')->{text},
         qr/^a token that it uses expires/, 'and told of';

    my $c = HybridTls->connect($t, port => $t->port(2), cert => $soon);
    is $c->ask('GET', '/api/tags')->{status}, 200, 'a certificate';
    like shown('credential_expires carl')->{text},
         qr/^a certificate that it uses expires/, 'is told of, too';

    is lines(qr/\[warn\].*credential_expires of client "frank":.*make a new/),
       1, 'the log says what to do';
};


subtest 'a client that worked' => sub {
    is ask($_), 200, 'they work' for @token{qw(bob dave grace)}, $good;

    # what comes while it works says nothing, nor do nine wrong secrets
    is ask($token{dave}, 'm2'), 403, 'policy' for 1 .. 3;
    is ask($wrong{bob}), 401, 'refusals' for 1 .. 9;
    sleep 1.2;
    is now()->{"client_refused $_"}, undef, "are an accident of $_"
        for qw(bob dave);
    sleep 5;
    is ask($wrong{bob}), 401, 'a tenth';
    my $row = shown('client_refused bob');
    is $row->{value}, 10, 'is not';
    like $row->{text}, qr/refused 10 times .* a wrong secret$/, 'in words';
    cmp_ok abs($row->{since} - time), '<', 30, 'since when';

    is ask($token{dave}, 'm2'), 403, 'policy';
    like shown('client_refused dave')->{text}, qr/last for 403$/,
         'a model that it may not use any more';

    is ask($wrong{ended}), 401, 'an expired secret' for 1 .. 3;
    like shown('client_refused grace')->{text},
         qr/last for a token that has expired$/, 'is told as such';

    is ask($stale), 401, 'an expired JWT' for 1 .. 3;
    like shown('client_refused jane')->{text},
         qr/last for a JWT that has expired/, 'whose it is';

    # nobody that we know; one that never worked
    ask({ bearer => 'Bearer nobody.access:x' }) for 1 .. 4;
    ask({ bearer => "Bearer $token{erin}{id}:x" }) for 1 .. 4;
    sleep 1.2;
    is now()->{'client_refused erin'}, undef, 'who never worked';

    is ask($token{bob}), 200, 'bob works again';
    gone('client_refused bob');
    is lines(qr/\[notice\].*refused of client "bob" is over, after \d+ s/), 1,
       'which is logged';
};


subtest 'machines and the ways there' => sub {
    $b{slow}->behave(delay_ms => 600, probes => 'only');
    $b{stuck}->loaded(m1 => -100);
    $b{down}->stop;

    my $row = shown("probe_slow slow $slow_path");
    like $row->{text}, qr/^probe takes [01]\.\d{3} s, slow=0\.400 s$/,
         'a slow probe';
    cmp_ok $row->{value}, '>=', 0.2, 'its value is what it takes';

    $row = shown('wedged stuck');
    like $row->{text}, qr/answers probes, but no requests/, 'a stuck one';

    $row = shown('backend_down down');
    like $row->{text}, qr/^no path to it is up \(of 1\): connect.*refused/,
         'one that is down, with the error';

    my $path = "path_flapping flap $b{flap}{addr}";
    my $n = sub { my ($x) = grep { $_->{name} eq 'flap' }
                  @{$t->get('/status')->{json}{backends}};
                  $x->{paths}[0]{changes} };
    my $from = $n->();

    for my $i (1 .. 4) {
        $b{flap}->behave(status => 500, probes => 'only');
        ok poll { $n->() == $from + 2 * $i - 1 || !sleep 0.1 }, 'down';
        last if $i == 4;
        $b{flap}->clear;
        ok poll { $n->() == $from + 2 * $i || !sleep 0.1 }, 'up';
        is now()->{$path}, undef, 'not too often' if $i == 3;
    }

    like shown($path)->{text}, qr/came up 7 times in the last 10 minutes/,
         'seven times';
    $b{flap}->clear;
    gone('backend_down flap');
};


subtest 'a model that is loaded again and again' => sub {
    is ask($token{alice}, 'm3'), 200, 'it is loaded';
    is ask($token{alice}, 'm3'), 200, 'and stays';
    sleep 1.1;
    is now()->{'cold_starts cold m3'}, undef, 'once is as usual';
    $b{cold}->$_ for qw(stop start);

    # several wait for it, and it is loaded once
    my $auth = "Authorization: Bearer $token{alice}{id}:"
        . "$token{alice}{secret}\r\n";
    my $body = '{"model":"m3","messages":[],"stream":false}';
    my @waiting = map { my $s = $t->open;
        $s->send("POST /api/chat HTTP/1.1\r\nHost: x\r\n$auth"
            . "Connection: close\r\nContent-Length: " . length($body)
            . "\r\n\r\n$body"); $s } 1 .. 4;
    like $_->read_until, qr{^HTTP/1.1 200 }, 'it is loaded again'
        for @waiting;
    my $row = shown('cold_starts cold m3');
    is $row->{value}, 2, 'how often';
    like $row->{text}, qr/loaded 2 times .* cold_starts is 1$/, 'in words';
};


my @kinds = qw(cold_starts probe_slow model_missing wedged client_refused
               credential_expires path_flapping backend_down);

subtest 'metrics' => sub {
    my $text = $t->get('/metrics')->{content};
    like $text, qr/^\# TYPE ngx_hybrid_anomaly gauge$/m, 'a gauge';
    like $text, qr/^ngx_hybrid_anomaly\{kind="$_",[^}]*\} 1$/m, $_
        for @kinds;
    like $text, qr/\{kind="probe_slow",backend="slow",path="$slow_path",/,
         'labels';
    unlike $text, qr/^ngx_hybrid_anomaly\{.*client="bob"/m,
           'what is over is not there';
};


# workers of a reload, and two of them, say nothing again

my $before = join ',', sort keys %{now()};
my $told = lines(qr/anomaly \w+ of/);

ok $t->reload, 'a reload';
sleep 1.1;
is join(',', sort keys %{now()}), $before, 'all is as it was' for 1 .. 4;
is lines(qr/anomaly \w+ of/), $told, 'and nothing is told again';

for my $name (split /,/, $before) {
    my ($kind, @labels) = split / /, $name;
    my $pattern = "anomaly $kind of " . join ' ', map { qr/\w+ "\Q$_\E"/ }
                                                  @labels;
    is lines(qr/\[warn\].*$pattern: /), 1, "once: $name";
}


# the end

$b{slow}->clear;
$b{stuck}->loaded;
$b{down}->start;
$b{$_}->models(qw(m1 m2 lost absent)) for qw(slow down plain);
is ask($token{$_}), 200, "$_ works again" for qw(dave grace);
is ask($good), 200, 'and jane';

$t->file('own.cert', Hybrid::_slurp($later->{cert}));
$t->file('own.key', Hybrid::_slurp($later->{key}));

my $long = $t->token('erin', until => until_in(90 * 86400));
my $http = conf(erin => $long->{line});
$http =~ s/cold_starts 1;/cold_starts 0;/;
$http =~ s/hybrid_client (?:frank|carl) .*//g;
$http =~ s/(backend flap .*?) fails=1 passes=1;/$1;/s;
$http =~ s/hybrid_backend flap \{.*?\}//s;
$http =~ s/stuck flap own/stuck own/;

ok $t->reload(%start, http => $http), 'with other lines';
ok settled(sub { !keys %{$_[0]} }), 'nothing is wrong any more'
    or diag join ', ', sort keys %{now()};

for my $name (split /,/, $before) {
    my ($kind, @labels) = split / /, $name;
    my $pattern = "anomaly $kind of " . join ' ', map { qr/\w+ "\Q$_\E"/ }
                                                  @labels;
    is lines(qr/\[warn\].*$pattern: /), 1, "once: $name";
    is lines(qr/\[notice\].*$pattern is over, after/), 1, "its end: $name";
}

# an operator knows what he has taken out of service; see t/360 for levers
is_deeply $t->get('/status')->{json}{anomalies}, [], 'an empty list';

$t->done;
