# Every message that "nginx -t" can give about issuers and JWTs.

# nothing to wait for: nginx has ended when its log is read
BEGIN { $ENV{TEST_NGINX_SLEEP} = 0.001 }

# an nginx that does not start leaves its memory to the exit
BEGIN { $ENV{ASAN_OPTIONS} .= ',detect_leaks=0' if $ENV{ASAN_OPTIONS} }

use Test::Nginx::Socket;
use HybridBlocks;
use HybridJwt;
use File::Temp 'tempdir';

my $dir = tempdir(CLEANUP => 1);
my $key = HybridJwt->key('ES256', kid => 'k');
my $weak = HybridJwt->key('RS256', kid => 'weak', bits => 1024);

my %file = (
    set => jwks($key), weak => jwks($weak), empty => '', none => jwks(),
    html => '<html>', list => '[]', big => ' ' x 1048577,
    private => jwks($key->jwk(d => 'AAAA')), other => jwks($key),
    twice => '{"keys":[],"keys":[]}',
    secret => 'x' x 32, short => 'x' x 31, lines => 'x' x 32 . "\ny",
);

for my $name (keys %file) {
    open my $out, '>', "$dir/$name" or die "$dir/$name: $!";
    print $out $file{$name};
    chmod 0600, $out;
}

my %base = (issuer => 'https://a', audience => 'x', algorithms => 'ES256',
            jwks => "$dir/set");

# a block; undef takes a statement away, a list has it several times
sub issuer {
    my ($name, %change) = @_;
    my %all = (%base, %change);
    my $text = '';

    for my $statement (sort keys %all) {
        my $value = $all{$statement} // next;
        $text .= "$statement $_; " for ref $value ? @$value : $value;
    }

    return "hybrid_issuer $name { $text }\n";
}

sub bad { my ($message, @change) = @_; [ $message => issuer('i', @change) ] }
sub jwt { "hybrid_client c { models *; jwt $_[0]; }\n" }
sub two { issuer('i') . jwt($_[0])
          . "hybrid_client d { models *; jwt $_[1]; }" }

my $hs = [ algorithms => 'HS256', jwks => undef ];
my $url = 'https://keys.test/set';
my $again = '"%s" directive is duplicate';
my $long = 'x' x 65;

my @refused = (
(map { [ qq(invalid issuer name "$_") => "hybrid_issuer '$_' { }" ] }
    '', 'a b', 'other', $long),
[ 'duplicate hybrid_issuer "i"' => issuer('i') . issuer('i') ],
[ '"hybrid_issuer" directive is not allowed here'
  => '', 'location /here { hybrid_issuer i { } }' ],
(map { bad(qq(hybrid_issuer "i" has no "$_"), $_ => undef) }
    'issuer', 'audience', 'algorithms'),
(map { bad(sprintf($again, $_), $_ => [ ($base{$_} // '1h') x 2 ]) }
    'issuer', 'algorithms', 'jwks', 'refresh'),
bad(sprintf($again, 'leeway'), leeway => [ '1s', '1s' ]),
bad(sprintf($again, 'header'), header => [ 'a', 'a' ]),
bad(sprintf($again, 'trusted_certificate'),
    trusted_certificate => [ 'a', 'a' ]),
bad('invalid issuer ""', issuer => "''"),
bad('invalid issuer "x', issuer => 'x' x 257),
bad('empty audience', audience => "a ''"),
bad('unknown directive "colour"', colour => 'blue'),
bad('unexpected "{"', issuer => '{ }'),

# keys

bad(q(hybrid_issuer "i" has no "jwks": a file, or a https:// URL),
    jwks => undef),
bad('hybrid_issuer "i" has "jwks", but only HS256 among its algorithms',
    algorithms => 'HS256', secret => "$dir/secret"),
bad('hybrid_issuer "i" allows HS256, but has no "secret"', @$hs),
bad('hybrid_issuer "i" allows HS256, but has no "secret"',
    algorithms => 'ES256 HS256'),
bad('hybrid_issuer "i" has a "secret", but its algorithms are without HS256',
    secret => "$dir/secret"),
(map { bad(qq(invalid algorithm "$_"), algorithms => $_) }
    'none', 'None', 'es256', 'ES512', 'HS384', 'RS1', 'ES256K', 'A128GCM'),
(map { bad(qq(keys can't be trusted that came from "$_": it must be a https:// )
           . 'URL, or a file', jwks => $_) }
    'http://keys.test/set', 'HTTP://keys.test/set'),
bad('empty jwks', jwks => "''"),
(map { [ $_->[0] => issuer('i', jwks => "$dir/$_->[1]") ] }
    [ qr/open\(\) "$dir\/missing" failed \(2: No such file/, 'missing' ],
    [ qr/issuer "i": the key set is not JSON: .*at line \d+/, 'empty' ],
    [ qr/issuer "i": the key set is not JSON: .*at line \d+/, 'html' ],
    [ qr/issuer "i": the key set is not JSON: duplicate object key/, 'twice' ],
    [ qr/issuer "i": the key set has no list "keys"/, 'list' ],
    [ qr/issuer "i": the key set has no usable key in /, 'none' ],
    [ qr/no usable key: key "weak": its "n" has less than 2048 bits/,
      'weak' ],
    [ qr/no usable key: key "k": it holds a secret/, 'private' ],
    [ qr/"$dir\/big" is larger than 1048576 bytes/, 'big' ]),
[ 'issuer "i": the key set is not JSON'
  => issuer('i', jwks => "$dir/html") ],
[ qr/no usable key: key "k": its "alg" is not one of the issuer's algorithms/
  => issuer('i', algorithms => 'RS256 ES384 EdDSA PS256') ],

bad(qq(the secret in "$dir/short" is too short: HS256 needs at least 32 bytes),
    @$hs, secret => "$dir/short"),
bad(qq(secret file "$dir/lines" must hold one line), @$hs,
    secret => "$dir/lines"),
[ qr/open\(\) "$dir\/missing" failed \(2/
  => issuer('i', @$hs, secret => "$dir/missing") ],
(map { bad(qq(invalid parameter "$_"), @$hs, secret => "$dir/secret $_") }
    'kid=', 'key=x', 'kid=' . 'x' x 257),
bad('there is a secret with kid "a" already', @$hs,
    secret => [ ("$dir/secret kid=a") x 2 ]),

# times and the rest

(map { bad(qq(invalid leeway "$_", it must be at most 60s), leeway => $_) }
    '61s', '2m', '-1', 'soon'),
(map { bad(qq(invalid time "$_", it must be as in "1h", at most "7d"),
           jwks => $url, refresh => $_) }
    '0', '0s', '8d', 'often', '-1s'),
(map { bad(qq(invalid time "0", it must be as in "1h"),
           jwks => $url, refresh => "1h $_=0") } 'cooldown', 'stale'),
bad('invalid parameter "fresh=1h"', jwks => $url, refresh => '1h fresh=1h'),
bad(q("stale" must not be less than the refresh time), jwks => $url,
    refresh => '1h stale=59m'),
bad(q(has "refresh", but no URL to get keys from: a file is read again when )
    . 'it changes', refresh => '1h'),
bad(q(has a "trusted_certificate", but no URL to get keys from),
    trusted_certificate => "$dir/set"),
(map { bad(qq(invalid header "$_": letters, digits and "-"), header => "'$_'") }
    '', 'a_b', 'a b', 'a:', "\xe4"),
(map { bad(qq(header "$_" can't hold a token, it has another meaning),
           header => $_) }
    'Host', 'X-Api-Key', 'CF-Access-Client-Id', 'Cookie', 'connection'),
(map { bad(qq(hybrid_issuer "i" can't have its tokens in header ")
           . lc($_) . '": backends get that', header => $_) }
    'User-Agent', 'x-request-id', 'Content-Type'),
(map { [ 'hybrid_issuer "j" has the "issuer" and the header of "i": a '
         . "token's keys would not be known"
         => issuer('i', header => $_->[0]) . issuer('j', header => $_->[1]) ] }
    [ undef, undef ], [ undef, 'Authorization' ], [ 'X-Jwt', 'x-jwt' ]),

# who may come with them

[ q("hybrid_access jwt", but there is no "hybrid_issuer")
  => client('c'), 'location /here { hybrid_access token jwt; }' ],
[ 'client "c" has a "jwt" of issuer "j", but there is no such "hybrid_issuer"'
  => issuer('i') . jwt('j sub=a') ],
[ 'client "c" has a "jwt" of issuer "I"' => jwt('I sub=a') . issuer('i') ],
[ 'invalid number of arguments in "jwt" directive' => issuer('i') . jwt('i') ],
(map { [ qq(invalid condition "$_", it must be "claim=value")
         => issuer('i') . jwt("i '$_'") ] }
    'sub', 'sub=', '=a', '', 'a b=c', "\xe4=x", "$long=x"),
[ 'duplicate condition "sub=a"' => issuer('i') . jwt('i sub=a x=y sub=a') ],
[ 'duplicate "jwt" line of client "c"'
  => issuer('i') . "hybrid_client c { models *; jwt i a=b c=d;
      jwt i c=d a=b; }" ],
(map { [ 'the "jwt" line of client "d" is that of client "c", too: no token '
         . 'could be told to be of one' => two(@$_) ] }
    [ 'i sub=a', 'i sub=a' ], [ 'i a=b c=d', 'i c=d a=b' ]),
[ 'clients name more than 32 different claims of issuer "i"'
  => issuer('i') . jwt('i ' . join ' ', map { "c$_=x" } 1 .. 33) ],
);

my @accepted = (
[ 'many claims' => issuer('i')
                   . jwt('i ' . join ' ', map { "c$_=x" } 1 .. 32) ],
[ 'the block comes later' => jwt('i sub=a') . issuer('i') ],
[ 'claims that differ' => two('i sub=a', 'i sub=b') ],
[ 'claims of which some are the same' => two('i sub=a', 'i sub=a b=c') ],
[ 'the same of another issuer'
  => issuer('i') . issuer('j', issuer => 'https://b') . jwt('i sub=a')
     . 'hybrid_client d { models *; jwt j sub=a; }' ],
[ 'one issuer, two headers' => issuer('i') . issuer('j', header => 'x-jwt') ],
[ 'everything' => issuer('i', audience => [ 'a', 'b c' ],
    algorithms => 'RS256 RS384 RS512 PS256 ES256 ES384 EdDSA HS256',
    leeway => '0s', header => 'Cf-Access-Jwt-Assertion',
    secret => [ "$dir/secret", "$dir/secret kid=b", "$dir/secret kid=c" ]) ],
[ 'the longest name of a claim'
  => issuer('i') . jwt('i ' . 'x' x 64 . '=y=z') ],
);

my $n = 0;

spec_string(table(
    (map {
        my ($message, $http, $server) = @$_;
        my $pattern = ref $message ? $message
                      : quotemeta($message) . '.* in \S+/conf/nginx\.conf:\d+$';

        [ 'TEST ' . ++$n . ": $message", must_die => '',
          config => $server // '', http_config => $http,
          'error_log eval' => "qr{$pattern}" ]
    } @refused),

    (map {
        [ 'TEST ' . ++$n . ": $_->[0]", http_config => $_->[1],
          config => 'location /here { return 204; }', request => 'GET /here',
          error_code => 204, no_error_log => '[alert]' ]
    } @accepted)));

plan tests => 2 * blocks();
no_shuffle();
quiet();
run_tests();
