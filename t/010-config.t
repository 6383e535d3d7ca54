# Every message that "nginx -t" can give for our directives.

# nothing to wait for: nginx has ended when its log is read
BEGIN { $ENV{TEST_NGINX_SLEEP} = 0.001 }

# an nginx that does not start leaves its memory to the exit
BEGIN { $ENV{ASAN_OPTIONS} .= ',detect_leaks=0' if $ENV{ASAN_OPTIONS} }

use Test::Nginx::Socket;
use HybridBlocks;
use File::Temp 'tempdir';

my $dir = tempdir(CLEANUP => 1);
my $sha = 'sha256:' . '0a' x 32;
my $long = 'x' x 65;
my $backend = 'hybrid_backend b { pass http://127.0.0.1:1; models m; }';

# The files that secrets come from.
my %file = (good => "secret\n", empty => '', blank => "\n", lines => "a\nb\n",
            space => "a b\n", control => "a\x01\n", big => 'x' x 8192);

write_files(0600);

# Files to include: the line of the fault, or of the block that has it.
%file = ('client.conf' => "models *;\n\ncolour blue;\n",
         'block.conf' => "# one\nhybrid_client c {\nmodels *;\n}\n",
         'backend.conf' => "\nhybrid_backend b {\npass https://u;\n}\n",
         'route.conf' => "$backend\nhybrid_route\n* b\nx;\n");

write_files(0644);

sub write_files {
    my ($mode) = @_;

    for my $name (keys %file) {
        open my $out, '>', "$dir/$name" or die "$dir/$name: $!";
        print $out $file{$name};
        chmod $mode, $out;
    }
}

# what is in a block, with the rest of it
sub in_client { "hybrid_client c { @{[token('c')]} models *; $_[0] }" }
sub in_backend { "hybrid_backend b { pass http://127.0.0.1:1; $_[0] }" }
sub credential { in_backend("credential $_[0];") }
sub in_location { $backend, "location /here { $_[0] }" }

# a location of a gateway with a TLS backend
sub to_tls {
    'hybrid_backend b { pass https://127.0.0.1:1; host b; models m; }',
    "location /here { $_[0] }"
}


my $directive = '"%s" directive is duplicate';
my $arguments = 'invalid number of arguments in "%s" directive';
my $one_line = "secret file \"$dir/%s\" must hold one line of visible "
    . 'characters';

# [ message => what http{} has, what server{} has ]
my @refused = (

# plain directives

[ 'invalid zone size "many"' => 'hybrid_zone many;' ],
[ 'hybrid_zone "511k" is too small, it must be at least 512k'
  => 'hybrid_zone 511k;' ],
[ '"hybrid_zone" directive is duplicate' => 'hybrid_zone 1m; hybrid_zone 1m;' ],
[ qr/hybrid_zone of 512k is too small for 4000 clients: make it larger/
  => join("\n", 'hybrid_zone 512k;',
          map { client("client-$_") } 1 .. 4000) ],

[ 'hybrid_redis needs an address, host:port or unix:path'
  => 'hybrid_redis timeout=1s;' ],
[ '"hybrid_redis" directive is duplicate'
  => 'hybrid_redis 127.0.0.1:1; hybrid_redis 127.0.0.1:2;' ],
[ 'a second Redis address "127.0.0.1:2" needs "cluster" or "sentinel=", the '
  . 'name of the master' => 'hybrid_redis 127.0.0.1:1 127.0.0.1:2;' ],
[ 'invalid port in Redis address "127.0.0.1:65536"'
  => 'hybrid_redis 127.0.0.1:65536;' ],
[ 'host not found in Redis address "no-such-host.invalid:1"'
  => 'hybrid_redis no-such-host.invalid:1;' ],
[ '"cluster" and "sentinel=" exclude each other: a cluster does its failover '
  . 'itself' => 'hybrid_redis 127.0.0.1:1 127.0.0.1:2 sentinel=main cluster;' ],
[ '"db=" does not go with "cluster", which has only one: use "prefix="'
  => 'hybrid_redis cluster db=1 127.0.0.1:1;' ],
(map { [ '"cluster" and "sentinel=" need host:port instead of "unix:/r"'
  => "hybrid_redis 127.0.0.1:1 unix:/r $_;" ] } 'cluster', 'sentinel=main'),
(map { [ '"tls_..." parameters need "tls=on"'
  => "hybrid_redis 127.0.0.1:1 $_;" ] } 'tls_ca=ca.pem', 'tls_name=x'),
[ 'invalid parameter "tls=yes"' => 'hybrid_redis 127.0.0.1:1 tls=yes;' ],
[ '"tls=on" needs host:port instead of "unix:/r"'
  => 'hybrid_redis unix:/r tls;' ],
[ '"tls_certificate=" and "tls_key=" need each other'
  => "hybrid_redis 127.0.0.1:1 tls=on tls_key=$dir/good;" ],
[ '"sentinel_username=" needs "sentinel_password_file="'
  => 'hybrid_redis 127.0.0.1:1 sentinel=main sentinel_username=u;' ],
[ '"sentinel_password_file=" needs "sentinel=", the name of the master'
  => "hybrid_redis 127.0.0.1:1 sentinel_password_file=$dir/good;" ],
[ 'too many Redis addresses, at most 64'
  => join(' ', 'hybrid_redis cluster', map { "127.0.0.1:$_" } 1 .. 65) . ';' ],
[ 'a password does not belong here: put it into a file and write '
  . '"password_file="' => 'hybrid_redis 127.0.0.1:1 password=x;' ],
[ '"username=" needs "password_file="'
  => 'hybrid_redis 127.0.0.1:1 username=u;' ],
(map { [ qq(invalid parameter "$_") => "hybrid_redis 127.0.0.1:1 '$_';" ] }
    'timeout=0', 'timeout=10001ms', 'timeout=soon', 'db=one', 'db=',
    'prefix={a}', 'prefix=a b', 'foo=bar', 'sentinel='),
[ sprintf($one_line, 'empty')
  => "hybrid_redis 127.0.0.1:1 password_file=$dir/empty;" ],

[ 'invalid value "maybe" in "hybrid_shadow" directive, it must be "on" or '
  . '"off"' => 'hybrid_shadow maybe;' ],
[ '"hybrid_clients redis" needs "hybrid_redis"' => 'hybrid_clients redis;' ],
[ 'invalid value "file", it must be "redis" or "off"'
  => 'hybrid_clients file;' ],
[ '"hybrid_clients" directive is duplicate'
  => 'hybrid_clients off; hybrid_clients redis;' ],
[ '"hybrid_admin" needs "hybrid_access": only a client with the verb "admin" '
  . 'gets in' => $backend, 'location /here/ { hybrid_admin; }' ],
[ '"hybrid_admin" needs "hybrid_access"' => $backend,
  'hybrid_access token; location /here/ { hybrid_access off; hybrid_admin; }' ],
[ '"hybrid_admin" with "satisfy any": nobody gets in by address' => $backend,
  'satisfy any; location /here/ { hybrid_access token; hybrid_admin; }' ],
(map { [ '"hybrid_admin" and something else that answers are in one location'
         => $backend, "location /here/ { hybrid_access token; $_ }" ] }
    'hybrid_admin; proxy_pass http://127.0.0.1:1;',
    'hybrid_admin; hybrid_status json;'),
(map { [ '"hybrid_admin" needs a location that is a prefix and ends with "/"'
         => $backend, "location $_ { hybrid_access token; hybrid_admin; }" ] }
    '/here', '= /here/', '~ ^/here/', '@here'),
[ '"hybrid_admin" directive is duplicate'
  => $backend, 'location /here/ { hybrid_admin; hybrid_admin; }' ],
(map { [ qq(invalid size "$_", it must be from 1 to 1m, or "off")
         => "hybrid_barrier $_ 1s;" ] } qw(-1 1025k many)),
[ 'a time is missing, after which the stream is passed on: write '
  . '"hybrid_barrier 8k 2s"' => 'hybrid_barrier 8k;' ],
[ '"off" takes no time' => 'hybrid_barrier off 1s;' ],
(map { [ qq(invalid time "$_") => "hybrid_barrier 8k $_;" ] } qw(0 soon)),
[ '"hybrid_barrier" directive is duplicate'
  => 'hybrid_barrier off; hybrid_barrier 8k 1s;' ],
(map { [ qq(invalid time "$_", it must be at least 100ms, or "off")
         => "hybrid_heartbeat $_;" ] } qw(0 99ms never)),
[ '"hybrid_heartbeat" directive is duplicate'
  => in_location('hybrid_heartbeat off; hybrid_heartbeat 20s;') ],
[ '"hybrid_shadow" directive is duplicate'
  => in_location('hybrid_shadow on; hybrid_shadow off;') ],

[ 'invalid value "any", it must be "token", "jwt", "mtls" or "off"'
  => in_location('hybrid_access any;') ],
[ 'invalid value "off", it must be "token", "jwt", "mtls" or "off"'
  => in_location('hybrid_access token off;') ],
[ '"hybrid_access" directive is duplicate'
  => in_location('hybrid_access off; hybrid_access token;') ],
[ 'invalid value "xml", it must be "html", "json" or "prometheus"'
  => in_location('hybrid_status xml;') ],
[ '"hybrid_status" directive is duplicate'
  => in_location('hybrid_status json; hybrid_status json;') ],
[ 'host not found in upstream "hybrid"'
  => '', 'location /here { proxy_pass https://hybrid; }' ],

(map { [ qq("$_->[0]" directive is not allowed here) => @$_[1, 2] ] }
    [ 'hybrid_zone', in_location('hybrid_zone 1m;') ],
    [ 'hybrid_client', in_location('hybrid_client c { }') ],
    [ 'hybrid_backend', in_location('hybrid_backend b { }') ],
    [ 'hybrid_route', in_location('hybrid_route * b;') ],
    [ 'hybrid_status', 'hybrid_status json;' ]),

# hybrid_client

(map { [ qq(invalid client name "$_": up to 64 letters, digits and any of )
         . '"._@-", not "other"' => "hybrid_client '$_' { }" ] }
    '', 'a b', 'a/b', 'a:b', 'other', '-', $long),
[ 'duplicate hybrid_client "c"' => client('c') . client('c') ],
[ 'client "c" has no credential: add a "token" line (tools/hybrid-token makes '
  . 'one), "jwt" or "cert"' => 'hybrid_client c { models *; }' ],
[ 'client "c" may use no model: add "models" (or "verbs read;" if that is '
  . 'meant)' => client('c', '') ],
[ 'client "c" may use no model' => client('c', 'verbs read admin;') ],

(map { [ qq(invalid token id "$_": up to 64 letters, digits and any of )
         . '"._@-"' => "hybrid_client c { token '$_' $sha; }" ] }
    'a:b', 'a b', $long),
(map { [ q(a token's secret must be given as "sha256:" and 64 hexadecimal )
         . 'digits (tools/hybrid-token prints the line)'
         => "hybrid_client c { token c $_; }" ] }
    'secret', 'sha256:', substr($sha, 0, -1), $sha . '0',
    'sha512:' . '0a' x 32, 'sha256:' . '0g' x 32, 'SHA256:' . '0a' x 32),
[ 'token id "c" belongs to client "c" already'
  => client('c') . "hybrid_client d { token c $sha; models *; }" ],
[ 'duplicate token "c"' => in_client(token('c')) ],
[ 'invalid parameter "since=2026-12-01T00:00:00Z"'
  => in_client("token d $sha since=2026-12-01T00:00:00Z;") ],
(map { [ qq(invalid time "$_", it must be as in "2026-12-01T00:00:00Z")
         => in_client("token d $sha 'until=$_';") ] }
    '2026-12-01', '2026-12-01 00:00:00Z', '2026-12-01T00:00:00',
    '2026-13-01T00:00:00Z', '2026-02-30T00:00:00Z', '2026-12-01T24:00:00Z',
    '2026-12-01T00:60:00Z', '2026-12-01T00:00:61Z', '2026-12-01T00:00:00z',
    '2026-12-01T00:00:00+2:00', '2026-12-01T00:00:00+24:00',
    '2026-12-01T00:00:00+02:60', '2026-12-01T00:00:00Z ',
    '-026-12-01T00:00:00Z',
    'tomorrow'),

[ 'invalid verb "write", it must be "inference", "read" or "admin"'
  => in_client('verbs read write;') ],
[ sprintf($directive, 'verbs') => in_client('verbs read; verbs read;') ],
[ 'invalid egress "home", it must be "local", "cloud" or "any"'
  => in_client('egress home;') ],
[ sprintf($directive, 'egress') => in_client('egress any; egress any;') ],
(map { [ qq(invalid rate "$_", it must be as in "10r/s", "120r/m", "500r/h" )
         . 'or "1000r/d"' => in_client("rate $_;") ] }
    'fast', '10', 'r/s', '0r/s', '-1r/s', '1.5r/s', '10r/w', '10/s',
    '1000001r/s', '10r/ss'),
(map { [ qq(invalid burst "burst=$_", it must be 1 to 1000000 requests)
         => in_client("rate 1r/s burst=$_;") ] }
    '0', '-1', '', 'many', '1000001'),
[ 'invalid value "loss=maybe", it must be "local", "open" or "closed"'
  => in_client('rate 1r/s loss=maybe;') ],
[ 'invalid parameter "nodelay"' => in_client('rate 1r/s nodelay;') ],
[ sprintf($directive, 'rate') => in_client('rate 1r/s; rate 1r/s;') ],

[ sprintf($directive, 'options')
  => in_client('options num_ctx=1; options num_gpu=1;') ],
(map { [ qq(invalid option "$_->[0]": $_->[1])
         => in_client("options $_->[0];") ] }
    [ 'num_ctx', 'write it as "num_ctx=8192" or "num_ctx=any"' ],
    (map { [ $_, 'no option of this name can be bounded' ] }
        'temperature=1', 'NUM_CTX=1', 'num_ct=1', 'num_ctxx=1', '=1',
        'models=1'),
    (map { [ "num_ctx=$_", 'it must be 1 to 2147483647, or "any"' ] }
        '0', '-1', '', '1.5', '1k', '2147483648', 'all', 'Any', '1='),
    (map { [ "num_gpu=$_", 'it must be 0 to 2147483647, or "any"' ] }
        '-1', ''),
    (map { [ "keep_alive=$_", 'it must be 1s to 365d, or "any"' ] }
        '0', '-1', '', 'soon', '366d', '500ms', '1.5m'),
    [ 'use_mmap=1', 'it is no number, and can only be "any"' ],
    [ 'numa=true', 'it is no number, and can only be "any"' ]),
[ 'invalid option "num_ctx=2": it is given twice'
  => in_client('options num_ctx=1 num_ctx=2;') ],
[ 'invalid option "keep_alive=1m": it is given twice'
  => in_client('options keep_alive=any num_ctx=2 keep_alive=1m;') ],

(map { [ qq(invalid number of tokens "$_", it must be as in "200k/m", "5M/h" )
         . 'or "100000/d"' => in_client("tokens $_;") ] }
    '200k', '/m', '0/m', '-1/m', '1.5k/m', '200kk/m', '10/s', '1/w',
    '1/M', 'k/m', '1125899907M/d', '99999999999999999999/d'),
(map { [ qq(invalid burst "burst=$_", it must be 1 to 1125899906842624 tokens)
         => in_client("tokens 1000M/m burst=$_;") ] }
    '0', '-1', '', 'k', 'many', '1125899906842625'),
[ 'invalid burst "burst=18263", it must be 1 to 18262 tokens'
  => in_client('tokens 1/d burst=18263;') ],
[ 'invalid parameter "queue=1"' => in_client('tokens 1k/m queue=1;') ],
[ sprintf($directive, 'tokens') => in_client('tokens 1/m; tokens 1/m;') ],

(map { [ qq(invalid concurrency "$_", it must be 1 to 100000 requests at )
         . 'a time' => in_client("concurrency $_;") ] }
    '0', '-1', 'many', '1.5', '100001'),
[ 'invalid parameter "burst=2"' => in_client('concurrency 1 burst=2;') ],
[ sprintf($directive, 'concurrency')
  => in_client('concurrency 1; concurrency 1;') ],

(map { [ qq(invalid budget "$_", it must be as in "5.00/d", per day, or )
         . '"100/M", per month' => in_client("budget $_;") ] }
    '5', '/d', '0/d', '0.00/d', '-1/d', '5.0000001/d', '5/h', '5/m', '5d',
    '1,5/d', '1.5.0/d', '1000000001/M', '.5/d', '1./d', './d'),
[ 'invalid parameter "burst=2"' => in_client('budget 1/d burst=2;') ],
[ sprintf($directive, 'budget') => in_client('budget 1/d; budget 1/M;') ],

(map { [ qq(invalid queue "$_", it must be 1 to 10000 requests that wait)
         => in_client("queue $_;") ] }
    '0', '-1', 'many', '10001'),
(map { [ qq(invalid "timeout=$_", it must be up to an hour)
         => in_client("queue 1 timeout=$_;") ] }
    '', '0', '-1', 'soon', '61m'),
[ 'invalid parameter "burst=2"' => in_client('queue 1 burst=2;') ],
[ sprintf($directive, 'queue') => in_client('queue 1; queue 1;') ],
(map { [ qq(invalid weight "$_", it must be 1 to 1000)
         => in_client("weight $_;") ] } '0', '1001', '1.5'),
[ sprintf($directive, 'weight') => in_client('weight 1; weight 1;') ],

# hybrid_backend

(map { [ qq(invalid backend name "$_": up to 64 letters, digits and any of )
         . '"._@-", not "other" or "discovered"'
         => "hybrid_backend '$_' { }" ] }
    '', 'a,b', 'other', 'discovered', '-', $long),
[ 'duplicate hybrid_backend "b"' => "$backend $backend" ],
[ 'backend "b" needs "pass"' => 'hybrid_backend b { api ollama; }' ],
(map { [ qq(invalid URL "$_", it must begin with "http://" or "https://")
         => "hybrid_backend b { pass $_; }" ] }
    '127.0.0.1:1', 'ftp://127.0.0.1'),
[ 'no host in upstream ""' => 'hybrid_backend b { pass http://; }' ],
[ 'invalid port in upstream "127.0.0.1:65536"'
  => 'hybrid_backend b { pass http://127.0.0.1:65536; }' ],
[ 'host not found in upstream "no-such-upstream"'
  => 'hybrid_backend b { pass http://no-such-upstream; }' ],
(map { [ qq(the path of "http://127.0.0.1$_" must be plain: no query, no )
         . 'escapes' => "hybrid_backend b { pass 'http://127.0.0.1$_'; }" ] }
    '/v1?a=b', '/v%31', '/v1#a', '/v 1', "/v\xe4"),
[ sprintf($directive, 'pass') => in_backend('pass http://127.0.0.1:2;') ],
(map { [ qq(invalid host "$_") => in_backend("host '$_';") ] }
    'a/b', 'a b', 'user@a', "a\xe4", ''),
[ sprintf($directive, 'host') => in_backend('host a; host b;') ],
[ 'invalid api "soap", it must be "ollama" or "openai"'
  => in_backend('api soap;') ],
[ sprintf($directive, 'api') => in_backend('api ollama; api openai;') ],
[ 'invalid egress "any", it must be "local" or "cloud"'
  => in_backend('egress any;') ],
[ sprintf($directive, 'egress') => in_backend('egress local; egress cloud;') ],
[ q("a b" can't be the name of a model) => in_backend('rename * "a b";') ],
[ q("a*" can't be the name of a model) => in_backend('rename * a*;') ],

[ 'backend "b" has a "price", which is for what a cloud takes: it needs '
  . '"egress cloud"' => in_backend('price input=0.10 output=0.40;') ],
[ sprintf($directive, 'price')
  => in_backend('egress cloud; price input=1; price output=1;') ],
[ sprintf($arguments, 'price') => in_backend('price;') ],
(map { [ qq(invalid parameter "$_->[0]" of "price": it takes input= and )
         . 'output=, each once' => in_backend("price $_->[1];") ] }
    [ '0.10', '0.10 0.40' ], [ 'cached=1', 'input=1 cached=1' ],
    [ 'input=2', 'input=1 input=2' ], [ 'output=2', 'output=1 output=2' ]),
(map { [ qq(invalid "input=$_": the price of a million tokens, 0 to 100000, )
         . 'with at most 6 digits after the point, as in "input=0.10"'
         => in_backend("price input=$_;") ] }
    '', '-1', '.5', '1.', '1,5', '1e3', '0.1234567', '100000.000001',
    '100001', '18446744073709551617', '1.5k', '+1', '1..5'),
(map { [ qq(invalid number of slots "$_") => in_backend("slots $_;") ] }
    '0', '-1', 'many', '100001'),
[ sprintf($directive, 'slots') => in_backend('slots 1; slots 2;') ],
(map { [ qq(invalid number of cold starts "$_") =>
         in_backend("cold_starts $_;") ] } qw(-1 x 1.5 100001)),
[ sprintf($directive, 'cold_starts') =>
  in_backend('cold_starts 0; cold_starts 0;') ],
[ sprintf($directive, 'probe') => in_backend('probe off; probe off;') ],
(map { [ qq(invalid "$_": a time from 10ms to 1d)
         => in_backend("probe $_;") ] }
    'interval=0', 'timeout=x', 'slow=2d', 'stall=1ms'),
(map { [ qq(invalid "$_": a number from 1 to 1000)
         => in_backend("probe $_;") ] } 'fails=0', 'passes=1001'),
[ 'invalid "uri=x": a path that begins with "/"'
  => in_backend('probe uri=x;') ],
[ 'invalid parameter "often" of "probe"' => in_backend('probe often;') ],
[ '"slow" must be below "timeout"'
  => in_backend('probe timeout=1s slow=1s;') ],
[ 'backend "b" has "models discover", which needs "probe"'
  => in_backend('probe off; models discover;') ],
[ '"models" is either "discover" or patterns'
  => in_backend('models discover; models a;') ],

(map { [ qq(backend "b" needs "host": the name to send, to ask for and to )
         . 'verify with TLS'
         => "upstream u { server 127.0.0.1:1; } hybrid_backend b "
            . "{ pass https://$_; }" ] }
    'u', '127.0.0.1:1', '[::1]:1'),
(map { [ 'backends "c" and "b" share upstream "u" but not its TLS identity: '
         . 'give each its own upstream'
         => "upstream u { server 127.0.0.1:1; }
             hybrid_backend b { pass https://u; host b; }
             hybrid_backend c { $_ }" ] }
    'pass https://u; host c;', 'pass http://u;', 'pass https://u; host bb;'),
[ 'duplicate upstream "hybrid"'
  => "$backend upstream hybrid { server 127.0.0.1:1; }" ],
[ 'duplicate upstream "hybrid"'
  => "upstream hybrid { server 127.0.0.1:1; } $backend" ],

[ 'invalid credential "basic", it must be "none", "bearer", "header", '
  . '"access" or "gce"' => credential('basic') ],
(map { [ qq(invalid number of arguments in "credential $_->[0]")
         => credential(join ' ', @$_) ] }
    [ none => 'x' ], [ 'bearer' ], [ bearer => 'x', 'y' ], [ header => 'x' ],
    [ access => 'x' ]),
[ sprintf($directive, 'credential')
  => in_backend('credential none; credential none;') ],
(map { [ qq(header "$_" can't be a credential, the gateway or the proxy sets )
         . 'it' => credential("header $_ $dir/good") ] }
    qw(Host connection TE X-Hybrid-Client)),
(map { [ qq(invalid header name "$_") => credential("header '$_' $dir/good") ] }
    'a:b', 'a b', 'a_b', ''),
[ qr/open\(\) "$dir\/missing" failed \(2: No such file or directory\)/
  => credential("bearer $dir/missing") ],
(map { [ sprintf($one_line, $_) => credential("bearer $dir/$_") ] }
    'empty', 'blank', 'lines', 'space', 'control'),
[ "\"$dir/big\" is larger than 8191 bytes" => credential("bearer $dir/big") ],
[ qr/read\(\) "$dir\/\." failed \(21: Is a directory\)/
  => credential("bearer $dir/.") ],
[ sprintf($one_line, 'lines') => credential("access $dir/good $dir/lines") ],
[ sprintf($one_line, 'lines') => credential("header x-key $dir/lines") ],

# proxy_pass

(map { [ 'a backend is "https://", so it must be "proxy_pass https://hybrid" '
         . 'in location "/here"'
         => to_tls("hybrid_access token; $_") ] }
    'proxy_pass http://hybrid;',
    'proxy_pass http://hybrid; proxy_ssl_verify on;
     proxy_ssl_trusted_certificate /etc/ssl/certs/ca-certificates.crt;'),
(map { [ 'a backend is "https://", so it must be "proxy_ssl_verify on" with '
         . '"proxy_ssl_trusted_certificate" in location "/here"'
         => to_tls("hybrid_access token; $_") ] }
    'proxy_pass https://hybrid;',
    'proxy_pass https://hybrid; proxy_ssl_verify off;'),
(map { [ qr{https://hybrid" needs "hybrid_access" in location "/here"}
         => in_location($_) ] }
    'proxy_pass https://hybrid;', 'proxy_pass http://hybrid;',
    'hybrid_access off; proxy_pass https://hybrid;'),
(map { [ 'upstream "hybrid" is the gateway itself: give "pass" the address of '
         . 'a backend' => "hybrid_backend b { pass $_; }" ] }
    'http://hybrid', 'https://hybrid/v1', 'http://HYBRID'),
[ 'backend "b" renames to "n:cloud", which leaves the premises: it needs '
  . '"egress cloud"' => in_backend('rename m n:cloud;') ],

# hybrid_route

[ 'unknown backend "x" in hybrid_route: there is no hybrid_backend of this '
  . 'name' => "$backend hybrid_route * b x;" ],
(map { [ qq("$_" in hybrid_route: equals are written with a comma and no )
         . 'space, "forge,anvil"'
         => "$backend hybrid_route * '$_';" ] } 'b,', ',b', 'b,,b', ''),
(map { [ 'backend "b" stands twice in hybrid_route'
         => "$backend hybrid_route * $_;" ] } 'b,b', 'b b'),
[ 'duplicate hybrid_route "m"'
  => "$backend hybrid_route m b; hybrid_route library/M:latest b;" ],
[ 'duplicate hybrid_route "m*"'
  => "$backend hybrid_route m* b; hybrid_route M* b;" ],
[ 'no backend of the route for "n" has this model: add it to "models" or '
  . '"rename" of one' => "$backend hybrid_route n b;" ],
(map { [ $_->[0] => "$backend hybrid_route v $_->[1];
                    hybrid_route big* b; hybrid_route m b;
                    hybrid_route w *:m;" ] }
    [ '"b" in hybrid_route: either backends, or models by the prompt\'s size: '
      . '"prompt<4k:model" and at last "*:model"', 'prompt<8k:m b' ],
    [ '"b" in hybrid_route: either', 'b *:m' ],
    [ '"prompt<8k" in hybrid_route: either', 'prompt<8k *:m' ],
    (map { [ qq(invalid number of tokens "$_" in hybrid_route),
             "prompt<$_:m *:m" ] } '', 0, '4x', '-1', '9999999999999g',
                                   '2305843009213693952'),
    [ 'hybrid_route "v" has no model for larger prompts: the last one is '
      . 'written as "*:model"', 'prompt<8k:m' ],
    (map { [ qq("$_->[0]" in hybrid_route never comes to pass: sizes rise, and )
             . '"*" is the last', $_->[1] ] }
        [ 'prompt<4k:m', 'prompt<4096:m prompt<4k:m *:m' ],
        [ 'prompt<3k:m', 'prompt<4k:m prompt<3k:m *:m' ],
        [ 'prompt<4k:m', '*:m prompt<4k:m' ], [ '*:m', '*:m *:m' ]),
    [ '"m " can\'t be the name of a model', "'*:m '" ],
    [ '"" can\'t be the name of a model', "*:" ],
    [ '"w" in hybrid_route "v" is not a real model: it is chosen by size '
      . 'itself', 'prompt<1k:m *:w' ],
    [ '"v" in hybrid_route "v" is not a real model', '*:v' ],
    [ 'no backend for model "n" of hybrid_route "v": it needs a hybrid_route '
      . 'of its own', 'prompt<1k:n *:m' ],
    [ 'no backend for model "big1" of hybrid_route "v"', '*:big1' ]),
[ '"v*" in hybrid_route: a model that is chosen by the prompt\'s size has an '
  . 'exact name' => "$backend hybrid_route v* *:m;" ],
[ 'duplicate hybrid_route "v"'
  => "$backend hybrid_route m b; hybrid_route v *:m; hybrid_route V *:m;" ],
[ 'duplicate hybrid_route "m"'
  => "$backend hybrid_route m b; hybrid_route m *:m;" ],
[ '"discovered" in hybrid_route, but no hybrid_backend is probed'
  => 'hybrid_backend b { pass http://127.0.0.1:2; probe off; }
      hybrid_route * discovered;' ],
[ 'unknown backend "discovered" in hybrid_route'
  => "$backend hybrid_route * b,discovered;" ],

# patterns, wherever they are

(map { my $text = $_;
       my $message = qq(model pattern "$text" can never match: a model's name )
           . q(has up to 256 letters, digits and any of "._:/@+-", here )
           . q(also "*");
       ([ $message => in_client("models m '$text';") ],
        [ $message => in_backend("models '$text';") ],
        [ $message => in_backend("rename '$text' m;") ],
        [ $message => "$backend hybrid_route '$text' b;" ]) }
    '', 'a b', "\xe4", '/a', 'a/', 'a//b', 'https://a/b/c', 'a:', ':a', 'a:b:c',
    'a:b:c:cloud', 'a?', 'x' x 257),
(map { [ qr/model pattern "\Q$_\E" can never match/
         => in_client("models $_;") ] }
    '*:', '*:local', '*/', '/*', '*//*', 'a:b:*:c', '*' . 'x' x 256),

# the place

[ qr/unknown directive "colour" in \Q$dir\E\/client\.conf:3/
  => in_client("include $dir/client.conf;") ],
[ qr/client "c" has no credential.* in \Q$dir\E\/block\.conf:2/
  => "include $dir/block.conf;" ],
[ qr/backend "b" needs "host".* in \Q$dir\E\/backend\.conf:2/
  => "upstream u { server 127.0.0.1:1; } include $dir/backend.conf;" ],
[ qr/unknown backend "x" in hybrid_route.* in \Q$dir\E\/route\.conf:4/
  => "include $dir/route.conf;" ],

# blocks

[ 'unknown directive "colour"' => in_client('colour blue;') ],
[ 'unknown directive "colour"' => in_backend('colour blue;') ],
[ 'unexpected "{"' => in_client('models { }') ],
(map { [ sprintf($arguments, $_) => in_client("$_;") ] }
    'models', 'verbs', 'egress', 'rate', 'token', 'options'),
(map { [ sprintf($arguments, $_) => in_backend("$_;") ] }
    'pass', 'host', 'api', 'egress', 'models', 'rename', 'credential'),
[ sprintf($arguments, 'token') => in_client("token a $sha until=x more;") ],
[ sprintf($arguments, 'host') => in_backend('host a b;') ],
);

my $n = 0;

spec_string(table(map {
    my ($message, $http, $server) = @$_;
    my $pattern = ref $message ? $message
                  : quotemeta($message) . '.* in \S+/conf/nginx\.conf:\d+$';

    [ 'TEST ' . ++$n . ": $message", must_die => '', config => $server // '',
      http_config => $http, 'error_log eval' => "qr{$pattern}" ]
} @refused));

plan tests => 2 * blocks();
no_shuffle();
quiet();
run_tests();
