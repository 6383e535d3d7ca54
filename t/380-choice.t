# Which of equal backends is asked, slots over all workers, breakers, and
# embeddings that stay with their model.

use strict;
use warnings;

use lib 't/lib';
use Hybrid;
use Test::More;
use Time::HiRes 'sleep';

my $t = Hybrid->new;
my @options = (models => join(',', qw(one two three four emb other emb:v2)),
               tokens => 3);
my ($forge, $anvil, $cloud) =
    map { $t->backend($_, @options) } qw(forge anvil cloud);
my %client = map { $_ => $t->token($_) } qw(alice bob carol);
$t->{as} = $client{alice};

my $clients = join '', map {
    "hybrid_client $_ { $client{$_}{line} models *; egress any; }\n"
} keys %client;

# what the backends keep, the test says when each answers
sub conf {
    my ($forge_more, $anvil_more, $routes) = @_;
    return <<"END";
    hybrid_zone 2m;
    $clients
    upstream forge { zone forge 64k; server $forge->{addr} max_fails=0; }
    upstream anvil { zone anvil 64k; server $anvil->{addr} max_fails=0; }
    upstream cloud { zone cloud 64k; server $cloud->{addr} max_fails=0; }
    hybrid_backend forge { pass http://forge; probe off; $forge_more }
    hybrid_backend anvil { pass http://anvil; probe off; $anvil_more }
    hybrid_backend cloud { pass http://cloud; probe off; egress cloud; }
    $routes
END
}

# a request that is not answered yet: the socket
sub held {
    my ($model, %o) = @_;
    my $body = Hybrid::encode({ model => $model, prompt => 'x' });
    my $s = $t->open(%o);
    $s->send("POST /api/generate HTTP/1.1\r\nHost: x\r\n"
             . 'Content-Length: ' . length($body) . "\r\n"
             . $t->auth_lines($o{as}) . "\r\n$body");
    return $s;
}

sub soon(&$) {
    my ($code, $name) = @_;
    ok scalar(&poll($code)), $name;
}

# how many are with each
sub busy { return map { $_->stats->{active} } @_ }

# what a request is told: status, backend, fallback
sub ask {
    my ($model, $expected, $name, %o) = @_;
    my $path = delete $o{path} || '/api/generate';
    my $content = delete $o{content}
                  || { model => $model, prompt => 'x', stream => \0 };
    my $r = $t->post($path, $content, %o);
    is join(' ', $r->{status}, map { $r->{headers}{"x-hybrid-$_"} // '-' }
                               qw(backend fallback)), $expected, $name;
    return $r;
}

sub hang { $_->behave(hang_before_header => \1) for @_ }
sub well { $_->clear for @_ }


subtest 'slots hold over all workers' => sub {
    $t->start(workers => 2, server => 'location = /status {'
        . ' hybrid_status json; } location = /metrics {'
        . ' hybrid_status prometheus; }', http => conf('slots 3;', 'slots 2;',
        'hybrid_route one forge,anvil; hybrid_route two forge;
         hybrid_route three forge,anvil cloud;'));

    hang($forge, $anvil);
    my @held = map { held('one') } 1 .. 9;

    soon { my @n = busy($forge, $anvil); $n[0] == 3 && $n[1] == 2 }
         'each is asked as often as it has slots';

    # those that found no slot have their answer
    my ($refused, @rest) = 0;
    soon {
        for my $s (splice @held) {
            my $text = $s->read_until(qr/\r\n\r\n/, 0.05) // '';
            if ($text =~ /^HTTP\/1.1 503 /) {
                $refused++;
                like $text, qr/^Retry-After: \d+\r$/m, 'Retry-After';
                like $text, qr/^X-Hybrid-Reason: unavailable\r$/m, 'why';
            }
            else {
                push @held, $s;
            }
        }
        $refused == 4;
    } 'the others are refused at once';

    ask('two', '503 - -', 'one backend, no slot');
    my $r = ask('three', '200 cloud busy', 'the next group has room');
    my ($status) = map { $t->get($_)->{json} } '/status';
    my ($b) = grep { $_->{name} eq 'forge' } @{$status->{backends}};
    cmp_ok $b->{passed_over}{busy}, '>=', 2, 'counted by reason';
    like $t->get('/metrics')->{content}, qr/^ngx_hybrid_backend_passed_over_
        total\{backend="forge",reason="busy"\}\s[1-9]/mx, 'as a metric';

    # a client that leaves frees its slot
    shift(@held)->close for 1 .. 5;
    soon { my @n = busy($forge, $anvil); $n[0] + $n[1] == 0 } 'all left';
    well($forge, $anvil);
    ask('two', '200 forge -', 'free again');

    # so does a worker that is killed
    hang($forge);
    @held = map { held('two') } 1 .. 3;
    soon { (busy($forge))[0] == 3 } 'full';
    ask('two', '503 - -', 'full');
    my @workers = Hybrid::_workers($t->{pid});
    kill KILL => @workers;
    soon { my %old = map { $_ => 1 } @workers;
              2 == grep { !$old{$_} } Hybrid::_workers($t->{pid}) } 'killed';
    $t->expect_log(qr/\[alert\].*exited on signal 9/);
    well($forge);
    soon { (busy($forge))[0] == 0 } 'they are gone';

    for (1 .. 3) {
        ask('two', '200 forge -', 'and their slots are free');
    }

    hang($forge);
    @held = map { held('two') } 1 .. 4;
    soon { (busy($forge))[0] == 3 } 'just as many as before';
    sleep 0.3;
    is((busy($forge))[0], 3, 'and no more');

    # kept over a reload: the old workers' requests still count
    $t->reload;
    ask('two', '503 - -', 'after a reload');
    $_->close for @held;
    soon { (busy($forge))[0] == 0 } 'they left';
    well($forge);
    soon { $t->post('/api/generate', { model => 'two', stream => \0 })
              ->{status} == 200 } 'free';
    $t->stop;
};


subtest 'who has less to do' => sub {
    $t->start(workers => 2, http => conf('slots 8;', 'slots 2;',
                                         'hybrid_route * forge,anvil;'));
    well($forge, $anvil);
    hang($forge, $anvil);

    my @held;

    # a share of the slots, not a number: 4 : 1
    for my $n (1 .. 10) {
        push @held, held('one');
        soon { my @n = busy($forge, $anvil); $n[0] + $n[1] == $n } "request $n";

        my @n = busy($forge, $anvil);
        cmp_ok abs($n[0] / 8 - $n[1] / 2), '<=', 0.5, "even: @n" if $n < 10;
    }

    is join(' ', busy($forge, $anvil)), '8 2', 'both full';
    $_->close for @held;
    soon { my @n = busy($forge, $anvil); $n[0] + $n[1] == 0 } 'all left';
    well($forge, $anvil);
    $t->stop;
};


subtest 'who is faster' => sub {
    $t->start(workers => 2, http => conf('', '',
                                         'hybrid_route * forge,anvil;'));
    $forge->behave(delay_ms => 400);

    # both are tried, then the slow one is left alone
    my %n;
    for (1 .. 20) {
        my $r = $t->post('/api/generate', { model => 'four', prompt => 'x' });
        $n{$r->{headers}{'x-hybrid-backend'}}++;
    }

    cmp_ok $n{forge} // 0, '<=', 4, 'the slow one is rarely asked';
    cmp_ok $n{forge} // 0, '>=', 1, 'but it was';
    well($forge);
    $t->stop;
};


subtest 'a breaker for a model' => sub {
    $t->start(workers => 2, http => conf('', '',
        'hybrid_route one forge anvil; hybrid_route two forge anvil;
         hybrid_route three forge;'));

    $forge->behave(status => 502, times => 2);
    ask('one', '200 anvil http_502', $_, as => $client{$_})
        for qw(alice bob);
    ask('one', '200 forge -', 'two are not enough', as => $client{carol});

    $forge->behave(status => 502);
    ask('one', '200 anvil http_502', 'alone') for 1 .. 6;
    is scalar($forge->requests), 9, 'one client is always asked for';

    ask('one', '200 anvil http_502', 'others', as => $client{$_})
        for qw(bob carol);

    well($forge);
    ask('one', '200 anvil breaker', 'it is open for all',
        as => $client{$_}) for qw(alice bob carol alice);
    is scalar($forge->requests), 0, 'and it was not asked';
    ask('two', '200 forge -', 'for another model it is closed');

    $forge->behave(status => 502);
    ask('three', '502 forge -', 'no other', as => $client{$_})
        for qw(alice bob carol);
    my $r = ask('three', '503 - -', 'open, and nobody else');
    cmp_ok $r->{headers}{'retry-after'}, '>=', 2, 'Retry-After';
    cmp_ok $r->{headers}{'retry-after'}, '<=', 11, 'is when it is tried';
    well($forge);

    like $t->wait_log('error.log', qr/\[warn\].*backend "forge" fails/, 2),
         qr/fails for model "one": it is not asked for it for 10 s/, 'logged';

    # 10 s later
    soon { $t->post('/api/generate', { model => 'three', stream => \0 })
              ->{status} == 200 } 'it is tried again';
    ask('three', '200 forge -', 'and closed');
    $t->stop;
};


subtest 'embeddings' => sub {
    $t->start(http => conf('rename mine emb; rename theirs emb:v2;', '',
        'hybrid_route emb forge anvil;
         hybrid_route mine forge anvil cloud;
         hybrid_route theirs forge anvil;
         hybrid_route one forge anvil;'));

    my %body = ('/api/embed' => 'input', '/api/embeddings' => 'prompt',
                '/v1/embeddings' => 'input');

    for my $path (sort keys %body) {
        my $content = sub { return { model => $_[0], $body{$path} => 'x' } };
        my @how = (path => $path);

        well($forge, $anvil, $cloud);
        ask('', '200 forge -', "$path: first", @how,
            content => $content->('emb'));
        $forge->behave(status => 503);
        ask('', '200 anvil http_503', "$path: the same model elsewhere",
            @how, content => $content->('emb'));
        my $r = ask('', '503 forge -', "$path: another is not asked", @how,
                    content => $content->('mine'));
        is scalar($anvil->requests), 1, 'it was not';
        is scalar($cloud->requests), 0, 'nor was the cloud';
        well($forge);
        ask('', '200 forge -', "$path: its own", @how,
            content => $content->('mine'));
        is $forge->last->{header}{'x-hybrid-client'}, 'alice';
    }

    $forge->behave(status => 503);
    ask('theirs', '404 anvil http_503', 'a chat moves on');
    $t->stop;
};

$t->done;
