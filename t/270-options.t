# What a request may ask of a machine: keep_alive and the options that a model
# is loaded with, within the bounds of the client's "options" line.

use strict;
use warnings;

use lib 't/lib';
use Hybrid;
use Test::More;

my $t = Hybrid->new;
my $forge = $t->backend('forge', models => 'm,n');

# name => what its block has
my %block = (
    plain => '', admin => 'verbs inference read admin;',
    bounded => 'options keep_alive=10m num_ctx=32768 num_batch=512 num_gpu=99
                num_thread=16 num_predict=4096 main_gpu=0;',
    root => 'verbs inference read admin;
             options keep_alive=10m num_ctx=32768;',
    short => 'options keep_alive=90s;', long => 'options keep_alive=30d;',
    pin => 'options keep_alive=any use_mmap=any num_ctx=any;',
    ctx => 'options num_ctx=2147483647;',
);
my %client = map { $_ => $t->token($_) } keys %block;

$t->start(http => join '', map({ "hybrid_client $_ { $client{$_}{line}
                                  models *; $block{$_} }\n" }
                               sort keys %block),
    "hybrid_backend forge { pass http://$forge->{addr}; }
     hybrid_route * forge;");

sub asked { $forge->stats->{requests} }

# "name: value" of the request, as JSON; gives "status reason"
sub ask {
    my ($who, $members, $path) = @_;
    my $r = $t->post($path || '/api/generate',
        qq({$members,"model":"m","stream":false}), as => $client{$who},
        headers => { 'Content-Type' => 'application/json' });

    return ($r->{status} . ' ' . ($r->{headers}{'x-hybrid-reason'} || '-'),
            $r);
}

sub allowed {
    my ($who, @members) = @_;

    for my $members (@members) {
        my $before = asked();
        my ($got, $r) = ask($who, $members);
        is $got, '200 -', "$who: $members" or diag $r->{content};
        is asked(), $before + 1, 'the backend was asked';
        like $forge->last->{body}, qr/^\Q{$members,\E/, 'for the same';
    }
}

sub refused {
    my ($who, $want, $message, @members) = @_;
    my $before = asked();

    for my $members (@members) {
        my ($got, $r) = ask($who, $members);
        is $got, $want, "$who: $members";
        is $r->{json}{error}, $message, 'and says why' if defined $message;
    }

    is asked(), $before, "$who: no backend was asked";
}

sub option { map { qq("options":{$_}) } @_ }


subtest 'no line' => sub {
    allowed('plain', '"options":{"num_ctx":1000000,"num_gpu":-1,"numa":true}',
        '"options":null', '"options":[]', '"keep_alive":"24h"');
    refused('plain', '403 keep_alive', 'this client may not unload or pin a '
        . 'model with keep_alive', '"keep_alive":0', '"keep_alive":"25h"',
        '"keep_alive":-1');
    allowed('admin', '"keep_alive":-1',
        '"keep_alive":0', '"options":{"num_ctx":1e9,"use_mlock":true}');
};


subtest 'within the bounds' => sub {
    allowed('bounded', option('', '"num_ctx":32768', '"num_ctx":0',
        '"num_ctx":1,"num_batch":512,"num_gpu":99,"num_thread":16',
        '"num_gpu":-1', '"num_gpu":0', '"main_gpu":0', '"num_predict":4096',
        '"num_ctx":null', '"use_mmap":null', '"num\u005fctx":1',
        '"temperature":1e0,"seed":-1,"top_p":0.5,"stop":["a"]',
        '"x":{"num_ctx":99999}',
        '"temperature":0,"temperature":1'),
        '"options":null', '"num_ctx":99999999', '"keep_alive":"10m"',
        '"keep_alive":600', '"keep_alive":1', '"keep_alive":600.0',
        '"keep_alive":"9m59.5s"', '"keep_alive":null');
    allowed('short', '"keep_alive":"1m30s"', '"keep_alive":"90s"');
    allowed('long', '"keep_alive":"720h"', '"keep_alive":2592000');
    allowed('ctx', option('"num_ctx":2147483647'));
    allowed('pin', '"keep_alive":-1', '"keep_alive":0', '"keep_alive":"-1ns"',
        option('"use_mmap":false', '"use_mmap":"x"', '"num_ctx":1e99'));
    allowed('root', '"keep_alive":0', '"keep_alive":"10m"',
        option('"num_ctx":32768', '"num_batch":4096,"use_mmap":true'));
};


subtest 'over the bounds' => sub {
    my %over = (num_ctx => 32768, num_batch => 512, num_gpu => 99,
                num_thread => 16, num_predict => 4096, main_gpu => 0);

    for my $name (sort keys %over) {
        refused('bounded', '403 options', "$name may be 0 to $over{$name}",
            map { option(qq("$name":$_)) } $over{$name} + 1, 2147483648,
            4294967296, '9223372036854775808', '18446744073709551617',
            '9' x 40, '-2', '-0', '-9' . '9' x 30,
            $name eq 'num_gpu' ? () : '-1');
    }

    refused('bounded', '403 options', 'num_ctx may be 0 to 32768',
        option('"x":[{"num_ctx":1}],"num_ctx":32769,"y":{}',
               '"num\u005f\u0063tx":32769', ' "num_ctx" : 32769 '));
    refused('bounded', '403 keep_alive',
        'keep_alive may be a plain time of at most 600 seconds',
        map { qq("keep_alive":$_) } qw(601 0 -1 0.5 600.5 6e2 1e9 "10m1s"
            "10m0.001s" "0s" "11m" "10.1m" "0.9h" "1h" "" "-1" "500ms"
            "9h9h9h9h9h9h9h9h9h9h9h9h9h"
            "99999999999999999999s"));
    refused('short', '403 keep_alive', undef, '"keep_alive":91',
        '"keep_alive":"2m"', '"keep_alive":"5m"', '"keep_alive":0');
    refused('long', '403 keep_alive', undef, '"keep_alive":"721h"',
        '"keep_alive":0');

    # who administrates may unload, but not pin
    refused('root', '403 keep_alive', undef, '"keep_alive":-1',
        '"keep_alive":601');
    refused('root', '403 options', 'num_ctx may be 0 to 32768',
        option('"num_ctx":32769'));
};


subtest 'options that are not on the line' => sub {
    for my $name (qw(num_keep num_gqa use_mmap use_mlock numa low_vram f16_kv
                     logits_all vocab_only rope_frequency_base
                     rope_frequency_scale))
    {
        refused('bounded', '403 options',
            "$name may not be set by this client",
            map { option(qq("$name":$_)) } qw(0 true "x" [] {} 1.5 -1));
    }

    refused('short', '403 options', 'num_ctx may not be set by this client',
        option('"num_ctx":1'));
    refused('pin', '403 options', undef,
        option('"num_gpu":1', '"num_batch":1'));
    allowed('short', option('"num_predict":-1'));
    refused('ctx', '403 keep_alive', undef, '"keep_alive":"25h"');
    allowed('ctx', '"keep_alive":"24h"');
};


subtest 'what is no integer' => sub {
    refused('bounded', '400 options', 'num_ctx must be an integer',
        map { option(qq("num_ctx":$_)) } qw(1.5 1.0 1e3 1E3 "1" "" true false
            [] [1] {} {"num_ctx":1} -1.5 -1e0 0.0));
    refused('bounded', '400 options', 'options must be an object',
        map { qq("options":$_) } '[]', '[{"num_ctx":1}]', '"x"', '1', 'true');
};


# whatever a reader with another idea of keys could make of them
subtest 'ambiguous' => sub {
    refused($_, '400 invalid_body', undef, option(
            '"num_ctx":1,"num_ctx":2', '"num_ctx":1,"NUM_CTX":2',
            '"Num_Ctx":1', '"num_\u0043tx":1', '"num_\u212aeep":1',
            "\"num_\xe2\x84\xaaeep\":1", '"u\u017fe_mmap":1',
            "\"u\xc5\xbfe_mmap\":true", '"num_ctx":null,"num_ctx":1'),
        '"options":{},"options":{"num_ctx":1}', '"Options":{}',
        '"option\u017f":{}', "\"option\xc5\xbf\":{}",
        '"\u212aeep_alive":1', '"keep_alive":1,"keep_alive":2')
        for qw(plain bounded admin);
};


subtest 'on every path that loads a model' => sub {
    my $before = asked();

    for my $path (qw(/api/generate /api/chat /api/embed /api/embeddings
                     /v1/chat/completions /v1/completions /v1/embeddings
                     /v1/responses /v1/messages /v1/messages/count_tokens
                     /api/show))
    {
        is +(ask('bounded', option('"num_ctx":32769'), $path))[0],
            '403 options', "$path, num_ctx";
        is +(ask('bounded', option('"numa":true'), $path))[0],
            '403 options', "$path, numa";
        is +(ask('bounded', '"keep_alive":-1', $path))[0],
            '403 keep_alive', "$path, keep_alive";
    }

    is asked(), $before, 'no backend was asked';
};


# in pieces: each option is found wherever a read ends
subtest 'in pieces' => sub {
    my $body = '{"model":"m","options":{"a":[{}],"num_ctx":32769}}';
    my $head = "POST /api/chat HTTP/1.1\r\nHost: a\r\nConnection: close\r\n"
        . $t->auth_lines($client{bounded}) . 'Content-Length: '
        . length($body) . "\r\n\r\n";

    for my $at (24, 36, 41, 44, 46) {
        my $answer = $t->raw([ $head . substr($body, 0, $at),
                               substr $body, $at ]);
        like $answer, qr/^HTTP\/1.1 403 .*num_ctx may be 0 to 32768/s,
            "split at $at";
    }
};

# what a create is made of must not hide from whom it goes to: also not behind
# so many texts that there is no room to keep one more
subtest 'a create for another host' => sub {
    my $long = join ',', map({ qq("$_":") . 'a' x 256 . '"' }
                             qw(source destination)),
        '"options":{' . join(',', map { qq("$_":") . 'a' x 20 . '"' }
            qw(num_ctx num_batch num_gpu main_gpu num_thread num_keep
               num_predict num_gqa use_mmap use_mlock numa low_vram f16_kv))
        . '}';

    for my $before ('"from":"n"', qq("from":"n",$long)) {
        for my $case ([ remote_host => '403 egress' ],
                      [ modelfile => '' ], [ path => '' ]) {
            my ($name, $want) = @$case;
            my $asked = asked();
            my ($got) = ask('admin', qq($before,"$name":"https://x.test:443"),
                            '/api/create');

            like $got, qr/^(?:400|403) /, "$name is refused: $got";
            is $got, $want, 'and why' if $want;
            is asked(), $asked, 'nobody is asked';
        }
    }
};

$t->done;
