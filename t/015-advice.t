# What "nginx -t" lets pass, but warns of.

BEGIN { $ENV{TEST_NGINX_SLEEP} = 0.001 }

use Test::Nginx::Socket;
use HybridBlocks;

my $token = 'token c sha256:' . '0a' x 32 . ';';
my $client = "hybrid_client c { $token models *; }";
my $backend = 'hybrid_backend b { pass http://127.0.0.1:1; models m; }';
my $route = 'hybrid_route * b;';
my $whole = "$client $backend $route";
my $proxy = 'hybrid_access token; proxy_pass https://hybrid;';

my $no_client = 'there is no "hybrid_client": "hybrid_access" lets nobody in';
my $no_route = 'there is no "hybrid_route": no model is found';
my $no_backend = 'but location "/here" leads to no backend: add "include '
    . 'hybrid_proxy.conf"';

# [ name, http{}, server{}, the warnings ]
my @cases = (
    [ 'a whole one', $whole, "location /here { $proxy }" ],
    [ 'no client', "$backend $route", "location /here { $proxy }",
      $no_client ],
    [ 'no route', "$client $backend", "location /here { $proxy }",
      $no_route ],
    [ 'neither', $backend, "location /here { $proxy }", $no_client,
      $no_route ],
    [ 'nobody asks for either', 'hybrid_zone 1m;', 'location /here { }' ],
    [ 'no include', $whole, 'location /here { hybrid_access token; }',
      $no_backend ],
    [ 'locations in a location', $whole, "location /here {
          hybrid_access token;
          location /here/a { proxy_pass https://hybrid; }
          location /here/b { $proxy } }" ],
    [ 'an own proxy_pass', $whole,
      'location /here { hybrid_access token; proxy_pass http://127.0.0.1:1; }'
    ],
    [ 'a status page', $whole,
      'location /here { hybrid_access token; hybrid_status json; }' ],
    [ 'off', $whole, 'location /here { hybrid_access off; }' ],
    [ 'access for all locations', $whole,
      'hybrid_access token; location /here { } location /there { }' ],
);

my @all = ($no_client, $no_route, $no_backend);

spec_string(table(map {
    my ($name, $http, $server, @warnings) = @$_;
    my %expected = map { $_ => 1 } @warnings;

    [ $name, http_config => $http, config => $server,
      request => 'GET /other', error_code_like => '40[14]',
      'grep_error_log eval' => 'qr/(?:there is no|but location) .*?(?=,|$)/',
      'grep_error_log_out eval' => 'join "", map { "$_\n" } ('
          . join(', ', map { "q{$_}" } grep { $expected{$_} } @all) . ')' ]
} @cases));

plan tests => 2 * blocks();
no_shuffle();
quiet();
run_tests();
