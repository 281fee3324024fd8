// Renders the table of error codes (src/api/errors.ts, built) to docs/errors.md; with --check, only
// compares.
import { readFileSync, writeFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { errorCodes } from '../dist/api/errors.js';

const file = fileURLToPath(new URL('../docs/errors.md', import.meta.url));

function cell(text) {
  return text.replaceAll('|', '\\|');
}

const rows = Object.entries(errorCodes).map(
  ([code, { meaning, hint }]) => `| \`${code}\` | ${cell(meaning)} | ${cell(hint)} |`,
);
const page = `# Error codes

Rendered from \`src/api/errors.ts\` by \`npm run docs\`; do not edit.

An operating error is a \`WalError\` with one of these as its \`code\`. Its message says what is
wrong, and names the file, the address or the figure; its \`hint\` says what to do: that of the
table, or a closer one where the cause is known. It has \`lsn\`, \`file\`, \`offset\` and
\`outcome\` where they apply. \`outcome\` is \`refused\` (the record is surely not in the log) or
\`unknown\` (it may be, now or later). A wrong argument is a \`TypeError\` or a \`RangeError\`
instead.
A program may rely on the codes: they change only with a major version.

| Code | What is wrong | What to do |
|--|--|--|
${rows.join('\n')}
`;

if (process.argv.includes('--check')) {
  let current = '';
  try {
    current = readFileSync(file, 'utf8');
  } catch {
    // A page that is missing is stale.
  }
  if (current !== page) {
    console.error('docs/errors.md is stale: run `npm run docs`');
    process.exitCode = 1;
  }
} else {
  writeFileSync(file, page);
}
