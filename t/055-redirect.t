# Requests that nginx turns into others: error_page, and subrequests.

use strict;
use warnings;

use lib 't/lib';
use Hybrid;
use Test::More;
use Time::HiRes 'sleep';

my $t = Hybrid->new;
my %b = map { $_ => $t->backend($_, models => 'm,counted') }
        qw(forge anvil other);
my $alice = $t->{as} = $t->token('alice');
my $key = Hybrid::sha256("key $$ " . rand);
my $file = $t->file('key', "$key\n");

my $page = "<p>the operator's own page</p>\n";
my $private = "for authenticated eyes only\n";
mkdir "$t->{dir}/www" or die "www: $!";
$t->file('www/50x.html', $page);
$t->file('www/err.html', $page);
$t->file('www/private', $private);

my $access = 'location / { hybrid_access token; include %PROXY%; }';

$t->start(
    # to be exceeded by one chunk
    proxy => sub { s/^(client_max_body_size) .*;/$1 1k;/m or die },
    http => <<"END");
    hybrid_client alice { $alice->{line} models *; }
    hybrid_backend forge { pass http://$b{forge}{addr}; probe off;
                           credential bearer $file; }
    hybrid_backend anvil { pass http://$b{anvil}{addr}; probe off;
                           credential header Api-Key $file; }
    hybrid_route two forge anvil;
    hybrid_route * forge;

    root %DIR%/www;
    # a hang must not end by itself
    client_body_timeout 300s;

    server {
        listen 127.0.0.1:%PORT1%;
        error_page 502 = \@other;
        $access
        location \@other {
            hybrid_access token;
            proxy_pass http://$b{other}{addr};
        }
    }

    server {
        listen 127.0.0.1:%PORT2%;
        error_page 502 = \@again;
        $access
        location \@again { hybrid_access token; include %PROXY%; }
    }

    server {
        listen 127.0.0.1:%PORT3%;
        error_page 502 /50x.html;
        $access
        location = /50x.html { internal; hybrid_access off; }
    }

    server {
        listen 127.0.0.1:%PORT4%;
        hybrid_access token;
        error_page 413 400 /err.html;
        location / { include %PROXY%; }
        location = /err.html { root %DIR%/www; }
    }

    server {
        listen 127.0.0.1:%PORT5%;
        large_client_header_buffers 4 1k;
        error_page 400 404 412 414 = /private;
        location = /private { hybrid_access token; }
        location = /st { hybrid_status json; }
        location = /metrics { hybrid_status prometheus; }
        location = /behind { auth_request /st; }
    }

    server {
        listen 127.0.0.1:%PORT6%;
        log_subrequest on;
        location / {
            hybrid_access token;
            auth_request /auth;
            include %PROXY%;
        }
        location = /auth { internal; return 204; }
        location = /api/generate {
            hybrid_access token;
            auth_request /ask;
            include %PROXY%;
        }
        location = /ask {
            internal;
            proxy_pass http://$b{other}{addr}/;
            proxy_pass_request_body off;
            proxy_set_header Content-Length "";
        }
    }
END

sub clear { $_->clear for values %b }
sub body { return qq({"model":"$_[0]","stream":false}) }
sub names { return join ' ', sort map { lc $_->[0] } @{$_[0]{headers}} }


subtest 'another proxy_pass sees what a backend would' => sub {
    my %evil = map { $_ => 'evil' } qw(Cookie Api-Key X-Forwarded-For X-Tenant
        Cf-Access-Jwt-Assertion Proxy-Authorization X-Hybrid-Client);
    my $usual = 'connection content-length content-type host user-agent '
                . 'x-hybrid-client';

    for my $model (qw(m two)) {
        for my $auth ({ Authorization => $alice->{bearer} }, $alice->{pair}) {
            $_->behave(close_before_header => \1) for @b{qw(forge anvil)};

            my $r = $t->post('/api/chat?key=evil', body($model), as => undef,
                headers => { %evil, %$auth,
                             'Content-Type' => 'application/json' });
            is scalar($b{other}->requests), 1,
               "$model, " . join ' ', sort keys %$auth;

            my $seen = $b{other}->last;
            is names($seen), $usual, 'the headers on the list, and no others';
            is $seen->{header}{'x-hybrid-client'}, 'alice', 'ours';
            is "$seen->{target} $seen->{body}", '/api/chat ' . body($model),
               'no query, and all of the body';
            unlike Hybrid::encode($seen), qr/evil|$alice->{secret}|$key/,
                   'no secret';
            is $r->{headers}{'x-hybrid-backend'}, undef, 'no backend of ours';
            clear();
        }
    }

    my %sum;
    my $counted = poll {
        my $status = $t->get('/st', as => undef, port => $t->port(5));
        %sum = ();
        for my $row (grep { $_->{backend} ne '-' }
                     @{$status->{json}{series}})
        {
            $sum{$_} += $row->{requests}{$_} for keys %{$row->{requests}};
        }
        ($sum{backend_error} // 0) == 4;
    } 5;
    ok $counted, 'backends that failed' or diag explain \%sum;
    is $sum{ok}, 0, 'and did not answer';
};


sub chunk { return sprintf "%x\r\n%s\r\n", length $_[0], $_[0] }

# The head comes alone: the gateway asks for the body.
sub begin {
    my $s = $t->open(port => $t->port(4));
    $s->send(join "\r\n", 'POST /api/chat HTTP/1.1', 'Host: gateway',
             'Transfer-Encoding: chunked', 'Expect: 100-continue',
             $t->auth_lines . "\r\n");
    $s->read_until(qr/\r\n\r\n/);
    $s->{buffer} =~ s/.*?\r\n\r\n//s;
    sleep 0.05;                 # until nginx waits for more
    return $s;
}

subtest 'a body that fails while it is read' => sub {
    my $large = chunk('{"model":"m","prompt":"' . 'x' x 2048);
    my @pieces = (chunk('y' x 700), chunk('"}'), "0\r\n\r\n");
    my @workers = Hybrid::_workers($t->{pid});

    for my $case ([ 'too large' => $large, 413 ],
                  [ 'too large, slowly' => chunk('{"model":"m",'), $large,
                    413 ],
                  [ 'too large a number' => "fffffff\r\n{", 413 ],
                  [ 'no chunk' => "zz\r\n", 400 ],
                  [ 'a chunk without an end'
                    => "2\r\n{\"model\"", 400 ])
    {
        my ($name, @sent) = @$case;
        my $status = pop @sent;

        for my $rest ([], \@pieces) {
            my $s = begin();

            for (@sent) {
                $s->send($_);
                sleep 0.02;
            }

            my $text = $s->read_until(qr/\r\n\r\n/, 8);
            like $text, qr{^HTTP/1\.1 $status }, "$name: $status";
            like $text, qr{^Content-Type: application/json\r$}m, 'our words';

            # to a gateway that does not want it, and may have closed
            for (@$rest) {
                $s->send($_);
                sleep 0.02;
            }

            $s->close;
            is $t->post('/api/chat', body('m'), port => $t->port(4))->{status},
               200, @$rest ? 'after the rest of it' : 'the next one';
        }
    }

    # all of it before the answer is read
    my $s = begin();
    $s->send($_) for $large, @pieces;
    like $s->read_until(qr/\r\n\r\n/, 8), qr{^HTTP/1\.1 413 }, 'in a hurry';
    $s->close;

    is scalar(grep { $_->{body} ne body('m') } $b{forge}->requests), 0,
       'the backend saw none of them';
    is_deeply [ Hybrid::_workers($t->{pid}) ], \@workers, 'the same worker';
    clear();
};


subtest 'who was not authenticated is not let in by a redirect' => sub {
    my $port = $t->port(5);
    my @stranger = (as => undef, port => $port);
    my %old = ('If-Unmodified-Since' => 'Thu, 01 Jan 2099 00:00:00 GMT',
               'If-Match' => '"x"');

    is $t->get('/private', @stranger)->{status}, 401, 'asked for';

    for my $path ('/st', '/metrics') {
        for my $name (sort keys %old) {
            my $r = $t->get($path, @stranger,
                            headers => { $name => $old{$name} });
            is $r->{status}, 200, "$path is no file that has an age: $name";
            like $r->{content}, $path eq '/st' ? qr/^\{"version".*\}\s*\z/s
                                               : qr/^# HELP ngx_hybrid_/,
                 'it is shown';
        }
    }

    # a status page was asked on behalf of the request
    my $r = $t->get('/behind', @stranger);
    is $r->{status}, 401, '404 behind a status page';
    unlike $r->{content}, qr/eyes/, 'not shown';

    # refused by nginx itself, before anybody is asked
    for my $case ([ 400 => "GET /st HTTP/1.1\r\n\r\n" ],
                  [ 400 => "GET /%zz HTTP/1.1\r\nHost: x\r\n\r\n" ],
                  [ 414 => 'GET /' . 'x' x 2000 . " HTTP/1.1\r\n\r\n" ])
    {
        my ($status, $request) = @$case;
        my $text = $t->raw($request, port => $port);
        like $text, qr{^HTTP/1\.1 401 }, "$status of nginx";
        unlike $text, qr/eyes/, 'not shown';
    }
};


subtest 'another try, or a page' => sub {
    my @port = (port => $t->port(2));

    $b{forge}->behave(close_before_header => \1, times => 1);
    my $r = $t->post('/api/chat', body('m'), @port);
    is "$r->{status} $r->{headers}{'x-hybrid-backend'}", '200 forge',
       'X-Hybrid-Backend';
    is scalar($b{forge}->requests), 2, 'asked twice';
    is $b{forge}->last->{body}, body('m'), 'for the same';
    is $b{forge}->last->{header}{authorization}, "Bearer $key",
       'with its credential';
    clear();

    my %error = ('/api/chat' => [ 'error' ],
                 '/v1/chat/completions' => [ qw(error message) ],
                 '/v1/messages' => [ qw(error message) ]);

    for my $path (sort keys %error) {
        $b{forge}->behave(close_before_header => \1);
        $r = $t->post($path, body('m'), @port);
        my $at = $r->{json};
        $at = ref $at ? $at->{$_} : undef for @{$error{$path}};

        is $r->{status}, 502, "$path: failed again";
        is $at, 'the backend gave no answer', 'told in the dialect';
        is_deeply [ @{$r->{headers}}{qw(content-type x-hybrid-reason
                                        x-hybrid-backend)} ],
                  [ qw(application/json backend_error forge) ], 'and headers';
        is scalar($b{forge}->requests), 2, 'asked twice';
        clear();
    }

    $b{forge}->behave(close_before_header => \1);
    $r = $t->post('/api/chat', body('m'), port => $t->port(3));
    is "$r->{status} $r->{headers}{'content-type'} $r->{content}",
       "502 text/html $page", 'a page, as the operator wrote it';
    clear();
};


subtest 'a list is no file that has a date or a tag' => sub {
    for my $path ('/api/tags', '/v1/models') {
        for my $name ('If-Match', 'If-None-Match', 'If-Unmodified-Since',
                      'If-Modified-Since')
        {
            my $value = $name =~ /Since/ ? 'Thu, 01 Jan 2099 00:00:00 GMT'
                                         : '"x"';
            my $r = $t->get($path, headers => { $name => $value });
            is $r->{status}, 200, "$path with $name";
            is ref $r->{json}, 'HASH', 'is a list';
        }
    }
};


subtest 'a subrequest is not the request' => sub {
    my @port = (port => $t->port(6));
    my $n = 0;

    for my $path ('/api/chat', '/api/generate') {
        is $t->post($path, body('counted'), @port)->{status}, 200, $path;
        $n++;

        my @rows;
        my $counted = poll {
            my $status = $t->get('/st', as => undef, port => $t->port(5));
            @rows = grep { $_->{model} eq 'counted' }
                    @{$status->{json}{series}};
            @rows && $rows[0]{requests}{ok} >= $n;
        } 5;

        ok $counted, 'counted';

        is scalar @rows, 1, 'in one place';
        is "$rows[0]{client} $rows[0]{backend}", 'alice forge', 'its own';
        is_deeply { map { $_ => $rows[0]{requests}{$_} }
                    grep { $rows[0]{requests}{$_} }
                    keys %{$rows[0]{requests}} }, { ok => $n }, 'once';
        is $rows[0]{"${_}_seconds"}{count}, $n, "with its $_"
            for qw(request_duration time_to_first_byte connect);
    }

    clear();
};


$t->done;
