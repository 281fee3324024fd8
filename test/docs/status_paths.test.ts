import { readFileSync } from 'node:fs';
import { expect, it } from 'vitest';

interface Schema {
  readonly $ref?: string;
  readonly $defs?: Readonly<Record<string, Schema>>;
  readonly properties?: Readonly<Record<string, Schema>>;
  readonly items?: Schema;
  readonly anyOf?: readonly Schema[];
  readonly oneOf?: readonly Schema[];
}

const root = JSON.parse(readFileSync('status.schema.json', 'utf8')) as Schema;

/** What a schema may stand for: itself, what it refers to, and each of its forms. */
function formsOf(schema: Schema): Schema[] {
  const name = schema.$ref?.replace('#/$defs/', '');
  const target = name === undefined ? [] : formsOf(root.$defs?.[name] ?? {});
  return [
    schema,
    ...target,
    ...[...(schema.anyOf ?? []), ...(schema.oneOf ?? [])].flatMap(formsOf),
  ];
}

/** Whether the status has this path, such as `standbys[].lag.flush.bytes`. */
function has(path: string): boolean {
  let schemas = formsOf(root.$defs?.log ?? {});
  for (const step of path.split('.')) {
    const name = step.replace('[]', '');
    schemas = schemas.flatMap(({ properties }) => formsOf(properties?.[name] ?? {}));
    schemas = schemas.filter((schema) => Object.keys(schema).length > 0);
    if (step.endsWith('[]'))
      schemas = schemas.flatMap(({ items }) => (items ? formsOf(items) : []));
  }
  return schemas.length > 0;
}

/** What a page says of the status: in words after `status()`, and in its table of alerts. */
function pathsOf(page: string): string[] {
  const said = [...page.matchAll(/`(?:\w+\.)?status\(\)\??\.([\w.[\]?]+)`/g)];
  const [, alerts = ''] = page.split('| Alert | From | Why |');
  const table = /^(?:\|.*\n)+/.exec(alerts.replace(/^\n/, ''))?.[0] ?? '';
  const from = table.split('\n').flatMap((row) => row.split('|')[2] ?? []);
  const told = from.join('\n').matchAll(/(?<!event )`([a-z]\w*(?:\[\])?(?:\.[\w[\]]+)*)`/g);
  return [...said, ...told]
    .map(([, path = '']) => path.replaceAll('?', ''))
    .filter((path) => path !== 'final');
}

it('knows which paths there are', () => {
  expect(has('standbys[].lag.flush.bytes')).toBe(true);
  expect(has('policy.degraded.since')).toBe(true);
  for (const path of ['standbys[].lagBytes', 'lag', 'policy.degrade', 'standbys.lag']) {
    expect(has(path), path).toBe(false);
  }
});

it.each(['operations', 'monitoring', 'options', 'security', 'guarantees', 'containers', 'safety'])(
  'docs/%s.md names what is in the status',
  (name) => {
    const paths = pathsOf(readFileSync(`docs/${name}.md`, 'utf8'));
    expect(paths.filter((path) => !has(path))).toEqual([]);
    if (name === 'operations') expect(paths.length).toBeGreaterThan(15);
  },
);
