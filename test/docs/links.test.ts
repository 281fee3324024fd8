import { existsSync, readdirSync, readFileSync } from 'node:fs';
import { dirname, join, normalize } from 'node:path';
import { expect, it } from 'vitest';

const pages = [
  'README.md',
  ...readdirSync('docs')
    .filter((name) => name.endsWith('.md'))
    .map((name) => `docs/${name}`),
];
/** Made by `npm run docs:api` when the package is packed. */
const generated = 'docs/api/README.md';

it.each(pages)('the links of %s lead somewhere', (page) => {
  const text = readFileSync(page, 'utf8');
  const links = [...text.matchAll(/\]\(((?!https?:|#)[^)#\s]+)/g)].map(([, link]) =>
    normalize(join(dirname(page), link ?? '')),
  );
  expect(links.filter((link) => link !== generated && !existsSync(link))).toEqual([]);
});
