import { readFileSync, writeFileSync } from 'node:fs';
import ts from 'typescript';

/** Where the counters are: instrumented modules find them here. */
export const countersName = '__walmirrorCounters';

/**
 * Writes a counter into every place of a module at which its course may differ: each function, each
 * branch, each turn of a loop, each right side of && || ??. Returns the first number not used.
 */
export function instrument(path, first) {
  const text = readFileSync(path, 'utf8');
  const edits = [];
  let next = first;
  const count = () => `__c[${next++}]++`;
  const insert = (at, added) => edits.push({ at, added });
  const statement = (node) => {
    if (ts.isBlock(node)) return insert(node.getStart() + 1, `${count()};`);
    insert(node.getStart(), `{${count()};`);
    insert(node.end, '}');
  };
  const expression = (node) => {
    insert(node.getStart(), `(${count()},(`);
    insert(node.end, '))');
  };
  const logical = new Set([
    ts.SyntaxKind.AmpersandAmpersandToken,
    ts.SyntaxKind.BarBarToken,
    ts.SyntaxKind.QuestionQuestionToken,
  ]);
  const visit = (node) => {
    if (ts.isFunctionLike(node) && node.body !== undefined) {
      if (ts.isBlock(node.body)) statement(node.body);
      else expression(node.body);
    } else if (ts.isIfStatement(node)) {
      statement(node.thenStatement);
      if (node.elseStatement !== undefined) statement(node.elseStatement);
    } else if (ts.isIterationStatement(node, false)) statement(node.statement);
    else if (ts.isConditionalExpression(node)) {
      expression(node.whenTrue);
      expression(node.whenFalse);
    } else if (ts.isBinaryExpression(node) && logical.has(node.operatorToken.kind)) {
      expression(node.right);
    } else if (ts.isCatchClause(node)) statement(node.block);
    ts.forEachChild(node, visit);
  };
  visit(ts.createSourceFile(path, text, ts.ScriptTarget.ES2022, true, ts.ScriptKind.JS));
  let result = text;
  // From the end; of two at one place the one that was found first comes first in the text.
  const ordered = edits.map((edit, order) => ({ ...edit, order }));
  for (const { at, added } of ordered.sort((a, b) => b.at - a.at || orderAt(a, b))) {
    result = result.slice(0, at) + added + result.slice(at);
  }
  writeFileSync(path, `const __c = globalThis.${countersName};${result}`);
  return next;
}

/** Outer nodes are found first: theirs opens first and closes last. */
function orderAt(a, b) {
  const closes = (edit) => edit.added.startsWith('}') || edit.added.startsWith(')');
  if (closes(a) !== closes(b)) return closes(a) ? 1 : -1;
  return closes(a) ? a.order - b.order : b.order - a.order;
}
