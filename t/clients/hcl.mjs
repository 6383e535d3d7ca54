// Terraform's files as JSON: node hcl.mjs FILE...

import { readFileSync } from 'node:fs';
import { parse } from '@cdktf/hcl2json';

const parsed = {};

for (const file of process.argv.slice(2)) {
    parsed[file] = await parse(file, readFileSync(file, 'utf8'));
}

process.stdout.write(JSON.stringify(parsed));
