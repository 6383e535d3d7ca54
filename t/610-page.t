# The operator's page: how it is answered, and in Chromium what it shows of
# real requests, of names that are markup, and of a gateway that goes away.

use strict;
use warnings;

use lib 't/lib';
use Digest::SHA 'sha256_base64';
use HybridBrowser;
use HybridRedis;
use JSON::PP;
use Test::More;

my $forge = backend(name => 'forge', models => 'mistral:7b,llama3:8b',
    args => { 'load-ms' => 600, 'prompt-ms' => 40, 'token-ms' => 4,
              tokens => 10 });
my ($alice, $bob, $viewer) = (client_block('alice', 'concurrency 4;'),
    client_block('bob', 'rate 1r/h burst=2;'),
    client_block('viewer', '', verbs => 'read'));

my $users = spew(dir() . '/users', "carol:{PLAIN}wonder\n");

my $gw = gateway(workers => 2, http => "hybrid_zone 2m;\n"
    . join('', map { $_->{conf} } $alice, $bob, $viewer)
    . "hybrid_backend forge { pass http://127.0.0.1:$forge->{port};"
    . " models *; }\n"
    . 'hybrid_route * forge;',
    server => 'location = /hybrid/ { hybrid_status html; }'
    . 'location = /token/ { hybrid_access token; hybrid_status html; }'
    . "location = /basic/ { auth_basic x; auth_basic_user_file $users;"
    . ' hybrid_status html; }');

my $url = "http://127.0.0.1:$gw->{port}/hybrid/";

sub ask {
    my ($client, %o) = @_;
    return raw_http($gw->{port}, post($client, %o))->{status};
}

sub get { return http($gw, 'GET', @_) }


subtest 'as a document' => sub {
    my $page = get('/hybrid/');
    my $h = $page->{headers};

    is($page->{status}, 200, 'there');
    is($h->{'content-type'}, 'text/html; charset=utf-8', 'its type');
    is($h->{'x-content-type-options'}, 'nosniff', 'nosniff');
    is($h->{'referrer-policy'}, 'no-referrer', 'no referrer');
    is($h->{'cache-control'}, 'no-cache', 'asked for each time');
    like($page->{body}, qr/^<!doctype html>.*<\/html>\n\z/s, 'whole');
    like($page->{body}, qr/The MIT License.*Leon Sorokin/s,
        'the licence of what draws');

    # what is between the tags, and nothing else, may run

    my %policy = map { /^(\S+) ?(.*)/ } split /; /,
        $h->{'content-security-policy'};
    is(delete $policy{'default-src'}, "'none'", 'nothing by default');
    is($policy{$_}, "'none'", $_)
        for qw(base-uri form-action frame-ancestors);
    is($policy{'connect-src'}, "'self'", 'its own data');
    is($policy{'img-src'}, 'data:', 'its own icon');

    is_deeply([ sort keys %policy ], [ qw(base-uri connect-src form-action
        frame-ancestors img-src script-src style-src) ], 'and no more');

    for my $tag (qw(script style)) {
        my @found = $page->{body} =~ /<$tag>(.*?)<\/$tag>/gs;
        is($policy{"$tag-src"}, join(' ', map {
            my $hash = sha256_base64($_);
            "'sha256-$hash" . '=' x (-length($hash) % 4) . "'" } @found),
            "$tag: hashes of what is there");
        is(() = $page->{body} =~ /<$tag\b/g, scalar @found, 'and of all');
    }

    unlike($page->{body} =~ s/<(script|style)>.*?<\/\1>|<!--.*?-->//gsr,
        qr/(?:src|href)="(?!#|\?|data:)|\bon\w+=/, 'no link, no handler');

    my $etag = $h->{etag};
    like($etag, qr/^"[0-9a-f]{32}"$/, 'an ETag');
    my $again = get('/hybrid/', "If-None-Match: \"x\", $etag\r\n");
    is($again->{status}, 304, 'nothing new');
    is($again->{body}, '', 'without the page');
    is($again->{headers}{etag}, $etag, 'the same ETag');
    is(get('/hybrid/', "If-None-Match: \"x\"\r\n")->{status}, 200,
        'another ETag: 200');
    my $head = http($gw, 'HEAD', '/hybrid/');
    is($head->{headers}{'content-length'}, length $page->{body}, 'HEAD');
    is($head->{body}, '', 'without the page');
    is(raw_http($gw->{port}, "POST /hybrid/ HTTP/1.1\r\nHost: x\r\n"
        . "Content-Length: 0\r\nConnection: close\r\n\r\n")->{status}, 405,
        'POST');

    for my $query (qw(data data= scope=gateway&data data&scope=gateway)) {
        my $data = get("/hybrid/?$query");
        is($data->{headers}{'content-type'}, 'application/json', $query);
        is(eval { decode_json($data->{body})->{backends}[0]{name} }, 'forge',
            'what JSON has');
        ok(!defined $data->{headers}{etag}, 'no ETag');
    }

    is(get("/hybrid/?$_")->{headers}{'content-type'},
        'text/html; charset=utf-8', "$_: the page")
        for qw(database xdata a=data scope=gateway);

    # whoever may not see the page does not see its data

    for my $query ('', '?data', '?history=1', '?x&data') {
        is(get("/token/$query")->{status}, 401, "/token/$query: 401");
        is(get("/token/$query", $viewer->{headers})->{status}, 200,
            'with a token: 200');
        is(get("/basic/$query")->{status}, 401, "/basic/$query: 401");
        is(get("/basic/$query", "Authorization: Basic Y2Fyb2w6d29uZGVy\r\n")
            ->{status}, 200, 'with the password: 200');
    }
};


my $b = eval { HybridBrowser->new(dir()) };

if (!$b) {
    diag($@) if $@;
    SKIP: { skip('no chromium: tools/deps test installs it', 1) }
    $gw->stop;
    done_testing();
    exit;
}

# the text of what is shown, in the words that are there
sub shown {
    my ($selector) = @_;
    my $text = $b->js("document.querySelector('$selector')?.innerText ?? ''");
    return $text =~ s/\s+/ /gr;
}

sub sees {
    my ($what, $regex) = @_;
    my $text;
    ok(wait_until(sub { $text = shown('main'); $text =~ $regex },
        $HybridBrowser::PATIENCE, 0.1), $what) or diag($text);
    return;
}

# what happens by itself every few seconds, or when one comes back to the page
sub refresh {
    $b->js("document.dispatchEvent(new Event('visibilitychange'))");
    return;
}

# by a click, as people do
sub view {
    my ($name) = @_;
    $b->js("document.querySelector('nav a[href=\"#$name\"]').click()");
    ok($b->wait_js("!document.querySelector('#view-$name').hidden"
        . " && document.querySelector('#view-$name').innerText !== ''"),
        "view $name");
    return;
}

sub narrow {
    my ($what) = @_;
    cmp_ok($b->js('document.documentElement.scrollWidth'), '<=', 360,
        "$what: not wider than a phone");
    return;
}

# a row of a table, by its first cell
sub row {
    my ($view, $first) = @_;
    my $rows = $b->js("[...document.querySelectorAll('#view-$view tbody tr')]"
        . ".map(r => [...r.cells].map(c => [c.dataset.label, "
        . "c.innerText.replace(/\\s+/g, ' ').trim()]))");
    for my $row (@$rows) {
        return { map { @$_ } @$row } if $row->[0][1] eq $first;
    }
    return {};
}

my @views = qw(now latency traffic limits gateway);


subtest 'before the first request' => sub {
    $b->size(1280, 800);
    $b->scheme('light');
    $b->open($url);
    ok($b->wait_js("document.querySelector('#live').dataset.state === 'live'"),
        'live');
    sees('nothing yet, and that is said', qr/No request was answered/);
    view($_) for @views;
    view('now');
};


subtest 'what requests leave' => sub {
    is(ask($alice, stream => 1), 200, 'alice') for 1 .. 3;
    is(ask($alice, model => 'llama3:8b', path => '/v1/chat/completions'),
        200, 'alice, another');
    is(ask($bob), $_, "bob: $_") for 200, 200, 429;
    is(ask({ headers => '' }), 401, 'nobody');

    # by itself: nothing is clicked

    sees('where the time goes', qr/forge: .*mistral:7b .*requests 5 /);
    sees('the stages, and for whom',
        qr/model load .* generation .* = .*for alice \d+ %, bob \d+ %/);
    sees('the backend', qr/forge ollama, local .*in flight 0/);

    view('latency');
    is($b->js("document.querySelectorAll('#view-latency canvas').length"), 3,
        'three plots');
    my $row = row('latency', 'mistral:7b');
    is($row->{requests}, 5, 'requests of a model');
    like($row->{p95} // '', qr/^\d.* m?s$/, 'p95 of its first token');
    like($row->{tokens} // '', qr/^\d+(?:\.\d)? tok\/s$/, 'its rate');
    is($row->{'cold starts'}, 1, 'its cold start');
    my @legends = map { shown("#view-latency figure:nth-of-type($_) .legend") }
        1 .. 3;
    like($legends[$_], qr/^median \d\S* \S+ p95 \d\S* \S+ p99 \d/,
        "plot $_: values of the history") for 0 .. 2;
    like($legends[0], qr/cold starts [12]\b/, 'cold starts are marked');
    $b->js("{ const s = document.querySelector('#view-latency select');"
        . " s.value = 'forge'; s.dispatchEvent(new Event('change')); }");
    is(row('latency', 'llama3:8b')->{requests}, 1, 'of a chosen backend');

    view('traffic');
    $row = row('traffic', 'alice');
    is($row->{requests}, 4, 'requests of alice');
    like($row->{'tokens out'}, qr/^4\d$/, 'her tokens');
    is(row('traffic', 'bob')->{refused}, 1, 'bob was refused');
    sees('why', qr/Refusals .*bob rate_limited 1/);

    view('limits');
    sees('bob has used what he may',
        qr/bob rate, 1 an hour \S+ of 2 .*alice concurrency, 4 at a time/);
    cmp_ok($b->js("document.querySelector('#view-limits [role=meter]')"
        . ".getAttribute('aria-valuenow')"), '>=', 95, 'as a bar, too');

    view('gateway');
    my $status = $gw->status;
    my $who = "module $status->{version} nginx $status->{nginx} name "
        . $status->{gateway};
    my $missing = $status->{authentication}{failures}{missing};
    sees('who it is', qr/Gateway \Q$who\E /);
    sees('who was not let in', qr/Failed authentication missing $missing /);

    view('now');
    is(ask($alice), 200, 'one more');
    refresh();
    sees('is seen without a click', qr/forge: .*mistral:7b .*requests 6 /);

    is_deeply($b->problems, [], 'no complaint');
    is_deeply([ grep { !/^(?:\Q$url\E|data:)/ } @{ $b->asked } ], [],
        'no request to anybody else');
};


subtest 'on a phone, dark and light' => sub {
    my %ground;

    $b->size(360, 740);

    for my $scheme (qw(light dark)) {
        $b->scheme($scheme);

        for my $name (@views) {
            view($name);
            narrow("$scheme, $name");
        }

        $ground{ $b->js('getComputedStyle(document.body).backgroundColor') }
            = $b->js('document.documentElement.dataset.theme');
    }

    is_deeply([ sort values %ground ], [qw(dark light)], 'two grounds');
    $b->js("document.querySelector('#theme').click()");
    is($b->js('document.documentElement.dataset.theme'), 'light', 'chosen');
    is_deeply($b->problems, [], 'no complaint');
};


subtest 'names that are markup' => sub {
    my $evil = '"><img src=x onerror="window.got=1"><script>window.got=1'
        . '</script>' . 'm' x 60;
    my $timer = { count => 3, sum => 3, p50 => 1, p95 => 1, p99 => 1 };

    $b->answer('[?]data' => sub { encode_json({
        version => $evil, nginx => $evil, gateway => $evil, scope => $evil,
        anomalies => [ { kind => $evil, backend => $evil, model => $evil,
                         text => $evil } ],
        clients => [ { name => $evil, limits => { $evil =>
            { quota => 3, burst => 3, used => 2, window => $evil } } } ],
        backends => [ { name => $evil, api => $evil, loaded => [ $evil ],
            version => $evil, passed_over => { $evil => 1 },
            models_error => $evil, models_age => 1, paths => [ {
                name => $evil, state => $evil, error => "$evil." } ] } ],
        issuers => [ { name => $evil, jwks => $evil, error => $evil } ],
        shadowed => [ { client => $evil, reasons => { $evil => 1 } } ],
        series => [ { client => $evil, backend => $evil, model => $evil,
            requests => { ok => 3 }, refused => { $evil => 1 },
            fallback_reasons => { $evil => 1 },
            map { $_ . '_seconds' => $timer } qw(request_duration load
                time_to_first_token) } ] }) },
        '[?]history' => sub {
            my ($hour) = $_[0] =~ /history=(\d+)/;
            my ($now) = int(time() / 60);
            return encode_json({ hour => 0 + $hour, minutes => [ map { {
                minute => $_, gateway => $evil, series => [ [ $evil, $evil,
                    $evil, '0.250:3 4.240:1 6.240:3 7.150:3 8.900:1 8.1:1'
                        . ' 9.1:1 10.0:3 10.20:1 x<b>' ] ] } }
                grep { int($_ / 60) == $hour } $now - 9 .. $now ] }) });

    $b->open("$url?again");
    ok($b->wait_js("document.querySelector('#live').dataset.state === 'live'"),
        'live');

    for my $name (@views) {
        view($name);

        # with lines of that name in the plots' legends

        $b->js("for (const s of document.querySelectorAll('select')) {"
            . " s.value = [...s.options].map(o => o.value).find(v =>"
            . " ['client', 'reasons'].includes(v)) ?? s.value;"
            . " s.dispatchEvent(new Event('change')); }");
        my $text = shown("#view-$name");
        like($text, qr/\Q$evil\E/, "$name: text");
        narrow($name);
    }

    ok(!$b->js("window.got || document.querySelectorAll('main img, main "
        . "script, main b img').length"), 'and no more than text');
    is_deeply($b->problems, [], 'no complaint');
    is_deeply([ grep { !/^(?:\Q$url\E|data:)/ } @{ $b->asked } ], [],
        'no request to anybody else');
    $b->{answers} = [];
};


subtest 'a gateway that tells little, or nonsense' => sub {
    for my $little ('{}', '{"series":3,"backends":[{}],"clients":[{}],'
        . '"redis":null,"anomalies":[{}],"issuers":[{}],"names":7}')
    {
        $b->answer('[?]data' => sub { $little }, '[?]history' => sub { '{}' });
        $b->open("$url?" . length $little);
        ok($b->wait_js("document.querySelector('#live').dataset.state"
            . " === 'live'"), 'live');
        view($_) for @views;
        $b->{answers} = [];
    }

    is_deeply($b->problems, [], 'no complaint');
};


subtest 'a gateway that goes, and comes back' => sub {
    $b->open($url);
    ok($b->wait_js("document.querySelector('#live').dataset.state === 'live'"),
        'live');
    ok($gw->stop('TERM'), 'ended');
    refresh();
    ok($b->wait_js("document.querySelector('#live').dataset.state === 'gone'"),
        'gone');
    like(shown('#notice'), qr/^The gateway is gone: .* is from /, 'is said');
    like(shown('main'), qr/forge/, 'what was known stays');
    narrow('with the notice');
    ok($gw->start, 'started again');
    ok($b->wait_js("document.querySelector('#live').dataset.state === 'live'"),
        'live by itself');
    is(shown('#notice'), '', 'no notice');
};

ok($b->stop, 'chromium ended');
log_is_clean($gw);
ok($gw->stop, 'the gateway ended');
done_testing();
