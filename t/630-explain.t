# hybrid_admin's explain: what it says is what a request then gets, and
# nothing changes by that.

use strict;
use warnings;

use lib 't/lib';
use Hybrid;
use Test::More;
use Time::HiRes qw(sleep time);

my $t = Hybrid->new;
my %b = map { $_ => $t->backend($_, models => 'm1,m2,small,large,other,far') }
            qw(forge anvil cloud);
my %token = map { $_ => $t->token($_) }
                qw(op alice reader bob carol waits poor);
my $tool = "$Hybrid::ROOT/tools/hybrid-ctl";

$t->start(workers => 2, http => <<"END");
    hybrid_client op { $token{op}{line} verbs admin; models *; }
    hybrid_client alice { $token{alice}{line} models m* auto small large; }
    hybrid_client reader { $token{reader}{line} models *; verbs read; }
    hybrid_client bob { $token{bob}{line} models *; egress any; }
    hybrid_client carol { $token{carol}{line} models *; }
    hybrid_client waits { $token{waits}{line} models *;
                          queue 4 timeout=20s; }

    hybrid_backend forge { pass http://$b{forge}{addr}; slots 1;
        probe interval=100ms fails=1 passes=1 stall=1s; }
    hybrid_backend anvil { pass http://$b{anvil}{addr};
        rename short m2; rename dear m2;
        probe interval=100ms fails=1 passes=1 stall=1s; }
    hybrid_client poor { $token{poor}{line} models *; egress any;
                         budget 0.003/d; }
    hybrid_backend paid { pass http://$b{cloud}{addr}; egress cloud;
        api openai; rename dear m1; price input=1 output=1; probe off; }
    hybrid_route dear paid anvil;
    hybrid_backend cloud { pass http://$b{cloud}{addr}; egress cloud;
        api openai; models far m1; probe off; }
    hybrid_route m1 forge anvil;
    hybrid_route m2 forge,anvil;
    hybrid_route short anvil;
    hybrid_route far cloud;
    hybrid_route absent forge anvil;
    hybrid_route only forge;
    hybrid_route auto prompt<1k:small *:large;
    hybrid_route s* forge anvil;
    hybrid_route l* anvil;

    server {
        listen 127.0.0.1:%PORT%;
        location / { hybrid_access token; include %PROXY%; }
        location /hybrid/admin/ { hybrid_access token; hybrid_admin; }
        location = /status { hybrid_status json; }
    }
END

# bytes of a prompt are a quarter of a token each
my %openai = (path => '/v1/completions');

sub why_of {
    my ($client, $model, %o) = @_;
    my $query = "client=$client&model=$model";
    $query .= "&$_=$o{$_}" for grep { defined $o{$_} } qw(path prompt format);
    return $t->get("/hybrid/admin/explain?$query", as => $token{op});
}

sub admin {
    my ($backend, $state) = @_;
    my $r = $t->post('/hybrid/admin/levers', { backend => $backend,
        state => $state }, as => $token{op});
    is $r->{status}, 200, "$backend: $state" or diag $r->{content};
}

# "status backend" or "status reason": explained, then asked
sub same {
    my ($name, $client, $model, $expected, %o) = @_;
    my $path = $o{path} || '/api/chat';
    my $before = $t->get('/status')->{json}{backends};
    my $e = why_of($client, $model, path => $path, prompt => $o{prompt});
    my $j = $e->{json} || {};
    my $said = $j->{verdict} || $e->{content};
    $said = "$j->{status} " . ($j->{backend} // $j->{reason})
        if $said eq 'answer' || $said eq 'refuse';
    is $said, $expected, "$name: explained" or diag $e->{content};
    is_deeply [ map { [ @$_{qw(in_flight passed_over)} ] }
                @{$t->get('/status')->{json}{backends}} ],
              [ map { [ @$_{qw(in_flight passed_over)} ] } @$before ],
              "$name: nothing was counted";
    return $e if $o{unasked};

    my $prompt = 'x' x (4 * ($o{prompt} || 0) || 1);
    my $r = $t->post($path, { model => $model, stream => JSON::PP::false,
        ($path =~ /embed/ ? 'input' : 'prompt') => $prompt },
        as => $token{$client});
    is join(' ', $r->{status}, $r->{headers}{'x-hybrid-backend'}
            // $r->{headers}{'x-hybrid-reason'} // '-'), $expected,
       "$name: and so it is";
    return $e;
}

sub why {
    my ($e, $backend) = @_;
    my ($row) = grep { $_->{backend} eq $backend }
                @{$e->{json}{candidates}};
    return $row ? $row->{why} // 'candidate' : 'none';
}

ok poll { my $e = why_of('alice', 'm1')->{json};
          @{$e->{candidates} || []} == 2
          && ($e->{candidates}[0]{latency_seconds} || 0) > 0 }, 'probed';


subtest 'policy and routes' => sub {
    my $e = same('the first choice', 'alice', 'm1', '200 forge');
    is why($e, 'anvil'), 'candidate', 'the second one is left';
    is $e->{json}{route}, 'm1:latest', 'the route';

    same('a model that it may not use', 'alice', 'other',
         '403 model_denied');
    same('a verb', 'reader', 'm1', '403 verb');
    same('no route', 'bob', 'nowhere', '404 model_not_found');
    $e = same('not on a list', 'bob', 'absent', '404 model_not_found');
    is why($e, 'forge'), 'no_model', 'which is told';

    $e = same('another name', 'bob', 'short', '200 anvil');
    is $e->{json}{candidates}[0]{model}, 'm2', 'that it has there';

    $e = same('egress', 'carol', 'far', '403 egress',
              path => '/v1/chat/completions');
    is why($e, 'cloud'), 'egress', 'which is told';
    same('another API', 'bob', 'far', '404 model_not_found');
    same('for who may', 'bob', 'far', '200 cloud',
         path => '/v1/chat/completions');
    same('an administrator\'s endpoint', 'bob', 'm1', '403 endpoint',
         path => '/api/pull', unasked => 1);

    $e = same('a small prompt', 'alice', 'auto', '200 forge', prompt => 1);
    is $e->{json}{model}, 'small', 'the model of that size';
    $e = same('a large one', 'alice', 'auto', '200 anvil', prompt => 2000);
    is $e->{json}{model}, 'large', 'another one';
    same('embeddings', 'alice', 'auto', '400 virtual_model',
         path => '/api/embed');
};


subtest 'backends' => sub {
    admin('forge', 'drain');
    my $e = same('drained', 'alice', 'm1', '200 anvil');
    is why($e, 'forge'), 'drained', 'which is told';
    same('the only one', 'bob', 'only', '404 model_not_found');
    admin('anvil', 'disable');
    $e = same('all of them', 'alice', 'm1', '503 drained');
    is why($e, 'anvil'), 'disabled', 'each as it is';
    admin($_, 'enable') for qw(forge anvil);

    $b{forge}->behave(status => 500, probes => 'only');
    ok poll { why(why_of('alice', 'm1'), 'forge') eq 'no_live' }, 'down';
    same('one is down', 'alice', 'm1', '200 anvil');
    $b{anvil}->behave(status => 500, probes => 'only');
    ok poll { why(why_of('alice', 'm1'), 'anvil') eq 'no_live' }, 'down';
    same('all are down', 'alice', 'm1', '503 unavailable');
    $_->clear for @b{qw(forge anvil)};
    ok poll { why_of('alice', 'm1')->{json}{backend}
              && why(why_of('alice', 'm1'), 'forge') eq 'candidate'
              && why(why_of('alice', 'm1'), 'anvil') eq 'candidate' }, 'up';
};


subtest 'slots' => sub {
    $b{forge}->behave(hang_before_header => 1);
    my $body = '{"model":"m1","stream":false}';
    my $s = $t->open;
    $s->send("POST /api/chat HTTP/1.1\r\nHost: x\r\n"
             . $t->auth_lines($token{bob}) . 'Content-Length: '
             . length($body) . "\r\n\r\n$body");
    ok $b{forge}->wait(sub { $_->{active} == 1 }), 'its slot is taken';

    my $e = same('busy', 'alice', 'm1', '200 anvil');
    is why($e, 'forge'), 'busy', 'which is told';
    is $e->{json}{candidates}[0]{in_flight}, 1, 'with the number';
    same('who may wait', 'waits', 'm1', 'wait', unasked => 1);
    same('equals', 'waits', 'm2', '200 anvil');

    # nobody waits for a machine that is away
    $b{forge}->behave(status => 500, probes => 'only');
    ok poll { why(why_of('waits', 'm1'), 'forge') eq 'no_live' }, 'down';
    same('busy and down', 'waits', 'm1', '200 anvil');
    $s->close;
    $b{forge}->behave;
    ok poll { why_of('alice', 'm1')->{json}{backend} eq 'forge' }, 'free';
};


subtest 'failures and money' => sub {
    $b{forge}->behave(status => 500, delay_ms => 0);
    $t->post('/api/chat', { model => 'small', messages => [] },
        as => $token{$_}) for qw(alice bob carol);
    $b{forge}->behave;
    my $e = same('failed three times', 'alice', 'small', '200 anvil');
    is why($e, 'forge'), 'breaker', 'which is told';
    same('for this model', 'alice', 'm1', '200 forge');

    # what is left is enough for a short prompt, not for a long one
    $e = same('money', 'poor', 'dear', '200 paid', prompt => 10, %openai);
    $e = same('not so much', 'poor', 'dear', '200 anvil', prompt => 5000,
              %openai);
    is why($e, 'paid'), 'budget', 'which is told';
};


subtest 'questions that are none' => sub {
    for ([ 'nobody', 'm1', 404, qr/"nobody\\" is in no file/ ],
         [ 'a%22b', 'm1', 400, qr/name of a client is needed/ ],
         [ '', 'm1', 400, qr/name of a client is needed/ ],
         [ 'alice', 'a%20b', 400, qr/can't be the name of a model/ ],
         [ 'alice', '', 400, qr/can't be the name of a model/ ],
         [ 'alice', '%22%3Cscript', 400, qr/\\"\\"<script\\" can't be/ ]) {
        my ($client, $model, $status, $text) = @$_;
        my $r = why_of($client, $model);
        is $r->{status}, $status, "\"$client\", \"$model\"";
        like $r->{content}, $text, 'in words';
        ok $r->{json}, 'it is JSON';
    }

    for my $path ('/api/nothing', '/api/tags', '/', 'x') {
        is why_of('alice', 'm1', path => $path)->{status}, 400, $path;
    }

    is why_of('alice', 'm1', prompt => 'x')->{status}, 400, 'no number';
    is $t->get('/hybrid/admin/explain?client=bob&model=m1',
               as => $token{bob})->{status}, 403, 'who may not ask';
    is $t->post('/hybrid/admin/explain', { client => 'bob' },
                as => $token{op})->{status}, 405, 'only by GET';
};


subtest 'the tool' => sub {
    my $file = $t->file('op.token', "$token{op}{id}:$token{op}{secret}\n");
    my @base = ('sh', $tool, '-t', $file, '-u',
                'http://127.0.0.1:' . $t->port . '/hybrid/admin');

    my $text = $t->run(@base, 'explain', '-m', 'm1', '-c', 'alice');
    is $t->{rc}, 0, 'hybrid-ctl explain' or diag $text;
    like $text, qr{^alice asks for m1 by /api/chat$}m, 'what';
    like $text, qr/^1\. forge: group 1, (?:not )?loaded, 0 of 1 slots, probe/m,
         'a candidate';
    like $text, qr/^2\. anvil: group 2/m, 'another';
    like $text, qr/^it would be sent to forge$/m, 'and the verdict';
    unlike $text, qr/$token{alice}{secret}|sha256/, 'no secret';

    $text = $t->run(@base, qw(explain -m far -c carol --path),
                    '/v1/chat/completions');
    like $text, qr/^-\. cloud: no candidate: .* not go there \(egress\)$/m,
         'why not';
    like $text, qr/^it would be refused: 403 egress/m, 'a refusal';

    $text = $t->run(@base, qw(explain -m m1 -c nobody));
    is $t->{rc} >> 8, 1, 'an unknown client';
    like $text, qr/404 .*in no file/, 'is told';

    for my $wrong (['explain'], [qw(explain -m m1)], [qw(explain -c alice)],
                   [qw(explain -m), 'a b', qw(-c alice)],
                   [qw(explain x -m m1 -c alice)],
                   [qw(explain -m m1 -c alice --path), 'api']) {
        $t->run(@base, @$wrong);
        is $t->{rc} >> 8, 2, "wrong usage: @$wrong";
    }
};

$t->done;
