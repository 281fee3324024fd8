import { readFileSync } from 'node:fs';
import { Ajv2020, type ValidateFunction } from 'ajv/dist/2020.js';
import { expect } from 'vitest';

let validate: ValidateFunction | undefined;

function compile(): ValidateFunction {
  const ajv = new Ajv2020({ allErrors: true, strict: true, allowUnionTypes: true });
  // The form in which `Date` writes itself, and no other.
  ajv.addFormat('date-time', (text) => {
    const date = new Date(text);
    return !Number.isNaN(date.getTime()) && date.toISOString() === text;
  });
  return ajv.compile(JSON.parse(readFileSync('status.schema.json', 'utf8')));
}

/** Fails unless this, after JSON, is what the schema in the package promises. */
export function expectStatus(status: unknown): void {
  validate ??= compile();
  const plain = JSON.parse(JSON.stringify(status)) as unknown;
  // Nothing is lost on the way: no undefined, no NaN, no Date.
  expect(plain).toEqual(status);
  const valid = validate(plain);
  // Of the two forms, what the first one has to say is what is wrong.
  const errors = (validate.errors ?? []).filter(({ schemaPath }) => !/directory/.test(schemaPath));
  expect(errors.map(({ instancePath, message }) => `${instancePath} ${message}`)).toEqual([]);
  expect(valid).toBe(true);
}
